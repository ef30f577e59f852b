"""IIRG and the other ideas end to end at tiny size: the recipes run, resume, and measure what a loop measures."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from models.errors import TrainingError
from models.networks.beam import TigerBeam
from models.networks.tiger import Tiger
from models.trie import Trie
from training.batches import pad
from training.data.dataset import Dataset
from training.export import level_tensors
from training.pipeline import Plan, semantic_ids
from training.recipes import ideas, iirg_effect
from training.recipes.decoding import decode
from training.recipes.variant_runs import BASELINE, FIRST_STAGE, Decoding
from training.recipes.variants import ONE_HOP, Comparison, compare, plan
from training.recipes.variants_table import markdown
from training.recommenders import Workshop, train_tiger
from training.regularization import Regularization

Codes = NDArray[np.int64]

QUIET = Console(file=io.StringIO())
IDEAS = "ema=0.9,smoothing,history,iirg,semantic,dropout,longer=3,beams=40,temperature=3,renormalised"
TRAINED = ["ema=0.9", "smoothing=0.1", "history=0.2", "iirg=1", "semantic=1", "dropout=0.2", "longer=3"]
DECODED = ["beams=40", "temperature=3", "renormalised=1"]


def run(command: object, folder: Path, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    common = [folder / "data", "--out", folder / "out", "--preset", "tiny", "--epochs", "1", "--embedder", "tfidf"]
    result = CliRunner().invoke(app, [str(word) for word in (*common, *arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def work(folder: Path) -> Path:
    return folder / "out" / "work"


@pytest.fixture(scope="module")
def tiny(dataset: Dataset, work: Path) -> Plan:
    return plan(dataset, "tiny", 1, work, "tfidf", "cpu")


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    run(ideas.main, folder, "--ideas", IDEAS)
    return Comparison.model_validate_json((folder / "out" / "ideas.json").read_text())


@pytest.fixture(scope="module")
def codes(found: Comparison, tiny: Plan, dataset: Dataset) -> Codes:
    """Semantic ids of the runs of `found`."""
    return semantic_ids(dataset, tiny, QUIET)[0]


def test_every_idea_is_measured_beside_the_baseline(found: Comparison) -> None:
    names = [BASELINE, *TRAINED, *DECODED]
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


def test_a_first_stage_is_trained_once_for_all_that_have_the_same_network(found: Comparison, work: Path) -> None:
    groups: dict[bytes, list[str]] = {}  # a checkpoint holds the seconds it took: equal files are copies
    for name in (BASELINE, *TRAINED):
        groups.setdefault((work / name / "0" / FIRST_STAGE[-1]).read_bytes(), []).append(name)
    assert list(groups.values()) == [[BASELINE, *TRAINED[:3]], ["iirg=1", "semantic=1"], ["dropout=0.2"], ["longer=3"]]


@pytest.mark.parametrize("word", ["history=0.2", "dropout=0.2", "longer=3"])
def test_a_run_beside_others_makes_the_lists_of_one_alone(
    work: Path, codes: Codes, tiny: Plan, dataset: Dataset, tmp_path: Path, word: str
) -> None:
    variant, preset = ideas.idea(word), tiny.preset
    shop = Workshop(dataset, tiny.runtime, tmp_path, QUIET)
    config = replace(preset.tiger, levels=codes.shape[1], **variant.network)
    network, _ = train_tiger(
        shop, codes, config, preset.fit_tiger, variant.regularization, fit_whole=preset.fit_tiger_whole
    )
    lists = decode(shop, TigerBeam(network, preset.width), config.max_history, codes, "test", "B")
    np.testing.assert_array_equal(lists, np.load(work / word / "0" / "test-B.npy"))
    assert not np.array_equal(lists, np.load(work / BASELINE / "0" / "test-B.npy"))


@pytest.mark.parametrize("word", DECODED)
def test_what_only_decodes_otherwise_trains_nothing_and_has_lists_of_its_own(
    work: Path, codes: Codes, tiny: Plan, dataset: Dataset, word: str
) -> None:
    files = sorted(path.name for path in (work / word / "0").iterdir())
    assert files == ["test-A.npy", "test-B.npy", "valid-A.npy", "valid-B.npy"]
    baseline = work / BASELINE / "0"
    network = Tiger(replace(tiny.preset.tiger, levels=codes.shape[1]))
    network.load_state_dict(torch.load(baseline / "tiger.best.pt", weights_only=True))
    search = ideas.idea(word).decoding.search(network, tiny.preset.width)
    shop = Workshop(dataset, tiny.runtime, baseline, QUIET)
    lists = decode(shop, search, network.config.max_history, codes, "test", "B")
    np.testing.assert_array_equal(lists, np.load(work / word / "0" / "test-B.npy"))
    plain = np.load(baseline / "test-B.npy")
    assert not np.array_equal(lists[:, : plain.shape[1]], plain)


@pytest.mark.parametrize("renormalised", [False, True])
def test_decoding_is_brute_force_with_its_width_temperature_and_softmax(
    codes: Codes, tiny: Plan, dataset: Dataset, renormalised: bool
) -> None:
    torch.manual_seed(0)
    network = Tiger(replace(tiny.preset.tiger, levels=codes.shape[1])).eval()
    trie, item_codes, body = Trie.build(codes), torch.from_numpy(codes), torch.from_numpy(codes[1:])
    history = pad(dataset.instances("test").histories[:1], 20)
    search = Decoding(dataset.num_items, renormalised, temperature=3).search(network, width=1).eval()
    allowed = np.ones((1, dataset.num_items + 1), dtype=np.bool_)
    with torch.inference_mode():
        items, scores = search(history, item_codes, torch.from_numpy(trie.leaf_item), level_tensors(trie, allowed))
        logits = network(history.expand(len(body), -1), torch.arange(1, len(body) + 1), item_codes) / 3
    expected = torch.zeros(len(body))
    for level, step in enumerate(logits.unbind(1)):
        log_probabilities = network.level_of(step.log_softmax(-1), level)
        if renormalised:
            one_prefix = (body[:, None, :level] == body[None, :, :level]).all(-1).float()  # item, item
            following = one_prefix @ F.one_hot(body[:, level], network.config.codebook_size).float()
            log_probabilities = log_probabilities.where(following > 0, -torch.inf).log_softmax(-1)
        expected += log_probabilities.gather(1, body[:, level : level + 1])[:, 0]
    torch.testing.assert_close(scores[0], expected[items[0] - 1])
    torch.testing.assert_close(scores[0], expected.sort(descending=True).values)


def test_seeds_are_averaged_over_users(tiny: Plan, dataset: Dataset) -> None:
    both = compare(dataset, tiny, [], [0, 1], ["test"], QUIET)
    each = [compare(dataset, tiny, [], [seed], ["test"], QUIET).rows[0].values["all"].value for seed in (0, 1)]
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
    assert ideas.idea("dropout=.3").network == {"dropout": 0.3}
    assert ideas.idea("longer").network == {"max_history": 40}
    assert ideas.idea("beams").decoding == Decoding(width=100)
    assert ideas.idea("temperature").decoding == Decoding(temperature=1.5)
    assert ideas.idea("renormalised").decoding == Decoding(renormalised=True)
    collaborative, semantic = (ideas.idea(name).iirg for name in ("collaborative", "semantic"))
    assert collaborative is not None
    assert semantic is not None
    assert (collaborative.lambda_2, semantic.lambda_1) == (0, 0)
    for word in ("dropouts", "ema=much", ""):
        with pytest.raises(TrainingError, match="one of ema, smoothing"):
            ideas.idea(word)
    for word in ("beams=2.5", "longer=0", "dropout=1", "temperature=0", "ema=nan", "iirg=inf"):
        with pytest.raises(TrainingError, match="a number that it can work with"):
            ideas.idea(word)


def test_variants_of_different_numbers_have_different_folders() -> None:
    assert ideas.idea("temperature=0.1234567").name != ideas.idea("temperature=0.12345671").name
