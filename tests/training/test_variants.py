"""IIRG and the other ideas end to end at tiny size: the recipes run, resume, and measure what a loop measures."""

import io
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from models.errors import TrainingError
from training.data.dataset import Dataset
from training.recipes import ideas, iirg_effect
from training.recipes.variant_runs import BASELINE, FIRST_STAGE
from training.recipes.variants import ONE_HOP, Comparison, compare, plan
from training.recipes.variants_table import markdown
from training.regularization import Regularization

QUIET = Console(file=io.StringIO())
IDEAS = "ema=0.9,smoothing,history,iirg"


def run(command: object, folder: Path, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    common = [folder / "data", "--out", folder / "out", "--preset", "tiny", "--epochs", "1", "--embedder", "tfidf"]
    result = CliRunner().invoke(app, [str(word) for word in (*common, *arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    run(ideas.main, folder, "--ideas", IDEAS)
    return Comparison.model_validate_json((folder / "out" / "ideas.json").read_text())


def test_every_idea_is_measured_beside_the_baseline(found: Comparison) -> None:
    names = [BASELINE, "ema=0.9", "smoothing=0.1", "history=0.2", "iirg=1"]
    assert list(found.minutes) == names
    places = [(row.variant, row.split, row.protocol) for row in found.rows]
    assert places == [(n, split, protocol) for n in names for split in ("valid", "test") for protocol in "AB"]
    for row in found.rows:
        assert set(row.values) == {"all", "MB", "NMB", ONE_HOP}
        assert bool(row.differences) == (row.variant != BASELINE)
        base = next(r for r in found.rows if (r.split, r.protocol) == (row.split, row.protocol))
        for name, difference in row.differences.items():
            assert difference.value == pytest.approx(row.values[name].value - base.values[name].value)
            assert difference.low <= difference.value <= difference.high


def test_the_measures_are_those_of_a_loop(found: Comparison, folder: Path, dataset: Dataset) -> None:
    instances = dataset.instances("test")
    lists = np.load(folder / "out" / "work" / BASELINE / "0" / "test-B.npy")
    row = next(r for r in found.rows if (r.variant, r.split, r.protocol) == (BASELINE, "test", "B"))
    gains, ratios, benefits = [], [], []
    for items, history, target in zip(lists.tolist(), instances.histories, instances.targets.tolist(), strict=True):
        assert not set(items) & set(history.tolist())
        rank = items.index(target) + 1 if target in items else 0
        gains.append(1 / np.log2(rank + 1) if 0 < rank <= 10 else 0.0)
        followers: dict[int, int] = {}
        for sequence in dataset.training_sequences():
            for one, other in zip(sequence[:-1].tolist(), sequence[1:].tolist(), strict=True):
                if one in history:
                    followers[other] = followers.get(other, 0) + 1
        one_hop = sorted(followers, key=lambda item: (-followers[item], item))[:50]
        ratios.append(np.mean([item in one_hop for item in items[:5]]))
        benefits.append(target in one_hop)
    assert row.values["all"].value == pytest.approx(np.mean(gains))
    assert row.values["MB"].value == pytest.approx(np.mean(np.array(gains)[benefits]))
    assert row.values[ONE_HOP].value == pytest.approx(np.mean(ratios))


def test_what_is_complete_is_not_repeated(found: Comparison, folder: Path) -> None:
    files = [*(folder / "out" / "work").rglob("*.pt"), *(folder / "out" / "work").rglob("*.npy")]
    before = {path: path.stat().st_mtime_ns for path in files}
    run(iirg_effect.main, folder)  # shares the baseline with the ideas
    assert {path: path.stat().st_mtime_ns for path in before} == before
    written = Comparison.model_validate_json((folder / "out" / "iirg.json").read_text())
    test = [row for row in found.rows if row.split == "test"]
    assert [row for row in written.rows if row.variant == BASELINE] == [r for r in test if r.variant == BASELINE]
    assert [row.values for row in written.rows[2:]] == [row.values for row in test if row.variant == "iirg=1"]
    text = (folder / "out" / "iirg.md").read_text()
    assert text == markdown(written)
    assert "| IIRG 1 1 |" in text


def test_a_first_stage_is_trained_once_for_all_that_have_the_same_network(found: Comparison, folder: Path) -> None:
    groups: dict[bytes, list[str]] = {}  # a checkpoint holds the seconds it took: equal files are copies
    for name in found.minutes:
        groups.setdefault((folder / "out" / "work" / name / "0" / FIRST_STAGE[-1]).read_bytes(), []).append(name)
    assert list(groups.values()) == [[BASELINE, "ema=0.9", "smoothing=0.1", "history=0.2"], ["iirg=1"]]


def test_seeds_are_averaged_over_users(folder: Path, dataset: Dataset) -> None:
    chosen = plan(dataset, "tiny", 1, folder / "out" / "work", "tfidf", "cpu")
    both = compare(dataset, chosen, [], [0, 1], ["test"], QUIET)
    each = [compare(dataset, chosen, [], [seed], ["test"], QUIET).rows[0].values["all"].value for seed in (0, 1)]
    assert each[0] != each[1]
    assert both.rows[0].values["all"].value == pytest.approx(np.mean(each))
    assert len(both.minutes[BASELINE]) == 2


def test_another_experiment_in_the_same_folder_is_refused(found: Comparison, folder: Path) -> None:
    with pytest.raises(TrainingError, match="other data or options"):
        run(ideas.main, folder, "--ideas", "ema", "--epochs", "2")


def test_ideas_are_named_by_word_and_number() -> None:
    assert ideas.idea("ema=0.99").regularization == Regularization(ema=0.99)
    assert ideas.idea("history").regularization == Regularization(history_dropout=0.2)
    assert ideas.idea("history") == ideas.idea("history=0.2")
    collaborative, semantic = (ideas.idea(name).iirg for name in ("collaborative", "semantic"))
    assert collaborative is not None
    assert semantic is not None
    assert (collaborative.lambda_2, semantic.lambda_1) == (0, 0)
    for word in ("dropouts", "ema=much", ""):
        with pytest.raises(TrainingError, match="one of ema, smoothing"):
            ideas.idea(word)
