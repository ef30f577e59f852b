"""Distillation for two tokenizers end to end at tiny size: the recipe runs, resumes, and measures what a loop does."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from models.errors import TrainingError
from training.data.dataset import Dataset
from training.recipes import distillation
from training.recipes.distillation import Distillations, Model, markdown, share

TOKENIZERS = ("rkmeans", "rqvae")
MODELS = ("tiger", "sid_mlp", "sid_mlp_pp")


def run(folder: Path, *arguments: str) -> Distillations:
    app = typer.Typer()
    app.command()(distillation.main)
    common = [folder / "data", "--out", folder / "out", "--preset", "tiny", "--epochs", "2", "--embedder", "tfidf"]
    words = [*common, "--student-epochs", "1", *arguments]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Distillations.model_validate_json((folder / "out" / "distillation.json").read_text())


@pytest.fixture(scope="module")
def found(folder: Path) -> Distillations:
    return run(folder, "--plus-plus")


def of(found: Distillations, tokenizer: str, name: str) -> Model:
    models = next(family.models for family in found.families if family.tokenizer == tokenizer)
    return next(model for model in models if model.name == name)


def test_every_tokenizer_has_a_teacher_and_its_students(found: Distillations) -> None:
    assert (found.preset, found.epochs, found.student_epochs, found.seed) == ("tiny", (2, 2), (1, 1), 0)
    assert [family.tokenizer for family in found.families] == list(TOKENIZERS)
    for family in found.families:
        assert 0 < family.collision_rate < 1
        assert [model.name for model in family.models] == list(MODELS)
        teacher = family.models[0]
        assert not teacher.shares
        for student in family.models[1:]:
            for protocol, estimate in student.shares.items():
                value = student.ndcg_at_10[protocol].value
                assert estimate.value == pytest.approx(value / teacher.ndcg_at_10[protocol].value)


def test_the_figures_are_those_of_a_loop(found: Distillations, folder: Path, dataset: Dataset) -> None:
    instances = dataset.instances("test")
    for name in MODELS:
        lists = np.load(folder / "out" / "work" / "rqvae" / f"{name}.npz")["lists"][1].tolist()
        gains = []
        for items, history, target in zip(lists, instances.histories, instances.targets.tolist(), strict=True):
            assert not set(items) & set(history.tolist())
            rank = items.index(target) + 1 if target in items else 0
            gains.append(1 / np.log2(rank + 1) if 0 < rank <= 10 else 0.0)
        assert of(found, "rqvae", name).ndcg_at_10["B"].value == pytest.approx(np.mean(gains))


def test_what_is_complete_is_not_repeated(found: Distillations, folder: Path) -> None:
    work = folder / "out" / "work"
    lost = work / "rkmeans" / "sid_mlp.npz"  # a run that was stopped before this student's lists
    lost.unlink()
    before = {
        path: path.stat().st_mtime_ns for path in (*work.rglob("*.npz"), *work.rglob("*.npy"), *work.rglob("*.pt"))
    }
    checkpoints = [path for path in before if path.suffix == ".pt"]
    assert len(checkpoints) == 2 * 2 * 5  # last and best; TIGER and SID-MLP++ have two stages
    assert run(folder, "--plus-plus") == found
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_fewer_models_are_a_part_of_the_same_experiment(found: Distillations, folder: Path) -> None:
    part = run(folder, "--tokenizer", "rqvae")
    assert [model.name for model in part.families[0].models] == ["tiger", "sid_mlp"]
    assert part.families[0].models == found.families[1].models[:2]
    text = (folder / "out" / "distillation.md").read_text()
    assert text == markdown(part)
    assert "| SID-MLP |" in text
    assert "rkmeans" not in text


def test_another_experiment_in_the_same_folder_is_refused(found: Distillations, folder: Path) -> None:
    with pytest.raises(TrainingError, match="other data or options"):
        run(folder, "--seed", "1")


def test_the_interval_of_a_share_is_that_of_resampled_ratios() -> None:
    random = np.random.default_rng(0)
    teacher = random.random(4000) * (random.random(4000) < 0.2)
    student = np.where(random.random(4000) < 0.9, teacher, random.random(4000) * (random.random(4000) < 0.2))
    rows = random.integers(0, 4000, (1000, 4000))
    ratios = student[rows].mean(1) / teacher[rows].mean(1)
    estimate = share(student, teacher)
    assert estimate.value == pytest.approx(student.mean() / teacher.mean())
    assert estimate[1:] == pytest.approx(np.percentile(ratios, [2.5, 97.5]), abs=0.004)
    assert estimate.high - estimate.low > 0.04
    assert share(teacher, teacher) == pytest.approx((1, 1, 1))
