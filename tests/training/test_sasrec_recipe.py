"""Two recipes of SASRec end to end at tiny size: the recipe runs, resumes, and measures what a loop measures."""

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from models.errors import TrainingError
from models.networks.sasrec import SASRec, SASRecConfig
from training.data.dataset import Dataset
from training.presets import PRESETS
from training.recipes import sasrec
from training.recipes.sasrec import Recipe, top_items
from training.recipes.sasrec_table import Recipes, Row, markdown

RECIPES = ("reproduction", "memgen")


def run(folder: Path, *arguments: str) -> Recipes:
    app = typer.Typer()
    app.command()(sasrec.main)
    words = [folder / "data", "--out", folder / "out", "--preset", "tiny", "--epochs", "2", *arguments]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Recipes.model_validate_json((folder / "out" / "sasrec.json").read_text())


@pytest.fixture(scope="module")
def found(folder: Path) -> Recipes:
    return run(folder, "--seed", "0", "--seed", "1")


def of(found: Recipes, recipe: str, split: str, protocol: str) -> Row:
    return next(row for row in found.rows if (row.recipe, row.split, row.protocol) == (recipe, split, protocol))


def trained(folder: Path, found: Recipes, recipe: str, seed: int) -> SASRec:
    """The network that a run kept."""
    training = next(training for training in found.trainings if training.recipe == recipe)
    network = SASRec(training.network).eval()
    network.load_state_dict(torch.load(folder / "out" / "work" / recipe / str(seed) / "sasrec.best.pt"))
    return network


def test_every_recipe_is_trained_and_measured(found: Recipes, dataset: Dataset) -> None:
    assert (found.preset, found.seeds, found.items) == ("tiny", [0, 1], dataset.num_items)
    assert [training.recipe for training in found.trainings] == list(RECIPES)
    places = [(row.recipe, row.split, row.protocol) for row in found.rows]
    assert places == [(name, split, protocol) for name in RECIPES for split in ("valid", "test") for protocol in "AB"]
    for training in found.trainings:
        assert [(run.seed, run.epochs) for run in training.runs] == [(0, 2), (1, 2)]
        assert all(1 <= run.best_epoch <= 2 for run in training.runs)
    reproduction, memgen = found.trainings
    assert reproduction.network == PRESETS["tiny"].sasrec_config(dataset.num_items)
    assert (memgen.network.heads, memgen.network.attention_dropout, memgen.fit.warmup_steps) == (2, 0.5, 10000)
    assert memgen.parameters == (dataset.num_items + 1 + 50) * 64 + 2 * (12 * 64**2 + 13 * 64) + 2 * 64


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("protocol", ["A", "B"])
def test_the_figures_are_those_of_a_loop(
    found: Recipes, folder: Path, dataset: Dataset, recipe: str, protocol: str
) -> None:
    """One history at a time, without padding, all items sorted."""
    instances, by_seed = dataset.instances("test"), []
    for seed in (0, 1):
        network, values = trained(folder, found, recipe, seed), []
        for history, target in zip(instances.histories, instances.targets.tolist(), strict=True):
            with torch.inference_mode():
                scores = network(torch.tensor(history[-network.config.max_history :].tolist())[None])[0].tolist()
            hidden = set(history.tolist()) if protocol == "B" else set()
            items = [item for item in range(1, dataset.num_items + 1) if item not in hidden]
            best = sorted(items, key=lambda item: -scores[item - 1])[:10]
            values.append((1 / np.log2(best.index(target) + 2), 1.0) if target in best else (0.0, 0.0))
        by_seed.append(np.array(values))
    for column, name in enumerate(("ndcg@10", "recall@10")):
        measure, each = of(found, recipe, "test", protocol).metrics[name], [v[:, column].mean() for v in by_seed]
        assert measure.seeds == pytest.approx(each)
        assert measure.deviation == pytest.approx(statistics.stdev(each))
        assert measure.estimate.value == pytest.approx(np.mean(each))
        assert measure.estimate.low <= measure.estimate.value <= measure.estimate.high
    assert sum(v.sum() for v in by_seed) > 0


def test_a_list_holds_no_masked_item_even_where_few_are_left() -> None:
    network = SASRec(SASRecConfig(6, d_model=8, layers=1, d_ff=8))
    histories = [np.array([1, 2, 3, 2], dtype=np.int32), np.array([6], dtype=np.int32)]
    free = top_items(network, histories, masked=False, device="cpu")
    masked = top_items(network, histories, masked=True, device="cpu")
    assert [sorted(row) for row in free.tolist()] == [[0, 0, 0, 0, 1, 2, 3, 4, 5, 6]] * 2
    for row, everything, history in zip(masked.tolist(), free.tolist(), histories, strict=True):
        left = [item for item in everything if item and item not in history]
        assert row == left + [0] * (10 - len(left))


def test_what_is_complete_is_not_repeated(found: Recipes, folder: Path) -> None:
    work = folder / "out" / "work"
    lost = work / "memgen" / "1" / "test-B.npy"  # a run that was stopped before this list
    lost.unlink()
    before = {path: path.stat().st_mtime_ns for path in (*work.rglob("*.pt"), *work.rglob("*.npy"))}
    assert len([path for path in before if path.suffix == ".pt"]) == 2 * 2 * 2  # last and best
    assert run(folder, "--seed", "0", "--seed", "1") == found
    assert lost.exists()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_one_seed_of_one_recipe_is_a_part_of_the_same_experiment(found: Recipes, folder: Path) -> None:
    part = run(folder, "--recipe", "memgen", "--seed", "1")
    assert [training.runs for training in part.trainings] == [found.trainings[1].runs[1:]]
    for row in part.rows:
        for name, measure in row.metrics.items():
            assert measure.deviation is None
            assert measure.seeds == of(found, "memgen", row.split, row.protocol).metrics[name].seeds[1:]
    text = (folder / "out" / "sasrec.md").read_text()
    assert text == markdown(part)
    assert "## test, protocol B: history masked" in text
    assert "reproduction" not in text


def test_another_experiment_in_the_same_folder_is_refused(found: Recipes, folder: Path) -> None:
    with pytest.raises(TrainingError, match="other data or options"):
        run(folder, "--epochs", "1")


def test_memgen_is_the_same_in_every_preset() -> None:
    tiny, small = (Recipe.memgen.within(PRESETS[name], None) for name in ("tiny", "small"))
    assert tiny.sasrec_config(9) == small.sasrec_config(9)
    assert tiny.fit_sasrec == small.fit_sasrec
    assert (small.fit_sasrec.epochs, small.fit_sasrec.patience, small.fit_sasrec.cosine) == (150, 20, True)
    assert Recipe.reproduction.within(PRESETS["small"], None) == PRESETS["small"]
