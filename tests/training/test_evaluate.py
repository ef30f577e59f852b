"""The results table of a bundle: which rows it has, how its parts add up, and what it refuses."""

import io
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from models.bundle import Bundle
from models.categories import categorize
from models.ensemble import METHODS, EnsembleParameters, Sigmoid
from models.errors import DataError
from models.fusion import Fusion
from models.graphs import Graphs
from models.histories import allow_all_but
from tests.bundles import ITEMS, random_learned
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Dataset
from training.evaluate import Results, Split, evaluate, print_results

QUIET = Console(file=io.StringIO())
GENERATIVE = ("tiger", "sid_mlp")
ROWS = [
    "popularity",
    "sasrec",
    *GENERATIVE,
    *(f"{method}_{name}" for name in GENERATIVE for method in ("fixed", "msp", "transition", "learned", "candidates")),
]


@pytest.fixture(scope="module")
def adaptive(bundle: Bundle) -> Bundle:
    """The tiny bundle with every method of both ensembles, so that their rows differ."""
    weights = {
        "msp": Sigmoid(k=1.0, tau=0.5),
        "transition": Sigmoid(k=25.0, tau=0.05),
        "learned": Sigmoid(k=9.0, tau=0.5),
    }
    parameters = {
        name: EnsembleParameters(
            method="candidates", alpha=alpha, weights=weights, validation=dict.fromkeys(METHODS, 0.0)
        )
        for name, alpha in (("tiger", 0.2), ("sid_mlp", 0.9))
    }
    fusions = {name: Fusion(parameters[name], random_learned(), bundle.facts) for name in GENERATIVE}
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"ensembles": parameters}), fusions=fusions)


@pytest.fixture(scope="module")
def dataset(bundle: Bundle) -> Dataset:
    return tiny_dataset(bundle)


@pytest.fixture(scope="module", params=["test", "valid"])
def split(request: pytest.FixtureRequest) -> Split:
    return request.param


@pytest.fixture(scope="module")
def results(adaptive: Bundle, dataset: Dataset, split: Split) -> Results:
    return evaluate(adaptive, dataset, split, QUIET)


def test_every_model_and_ensemble_has_a_row_under_both_protocols(results: Results, split: Split) -> None:
    assert results.split == split
    assert list(results.protocols) == ["A", "B"]
    for part in results.protocols.values():
        assert list(part.rows) == ROWS
        assert list(part.rows["tiger"].metrics) == ["recall@5", "ndcg@5", "recall@10", "ndcg@10"]
    assert results.protocols["A"].masking != results.protocols["B"].masking


def test_groups_are_those_of_the_split_and_add_up_to_the_whole(
    results: Results, adaptive: Bundle, dataset: Dataset, split: Split
) -> None:
    instances = dataset.instances(split)
    counts = categorize(adaptive.transitions, instances.histories, instances.targets).counts()
    assert results.data["instances"] == counts["n"] == len(instances.targets)
    for part in results.protocols.values():
        for row in part.rows.values():
            assert {name: group.n for name, group in row.groups.items()} == {
                name: counts[name] for name in ("memorization", "generalization", "uncategorized") if counts[name]
            }
            weighted = sum(group.n * group.ndcg_at_10.value for group in row.groups.values()) / counts["n"]
            assert row.metrics["ndcg@10"].value == pytest.approx(weighted)
            assert all(low <= value <= high for value, low, high in row.metrics.values())


def test_single_models_score_what_their_graphs_answer(
    results: Results, adaptive: Bundle, graphs: Graphs, dataset: Dataset, split: Split
) -> None:
    """One call an instance, one target an instance, NDCG by its formula; as a whole and by category."""
    instances = dataset.instances(split)
    groups = categorize(adaptive.transitions, instances.histories, instances.targets).group().tolist()
    for protocol, part in results.protocols.items():
        gains: dict[tuple[str, str], list[float]] = defaultdict(list)
        for history, target, group in zip(instances.histories, instances.targets.tolist(), groups, strict=True):
            allowed = allow_all_but([history], ITEMS) if protocol == "B" else None
            answers = {"sasrec": graphs.rank([history], allowed).items[0]}
            answers |= {name: graphs.generate(name, [history], allowed).items[0] for name in ("tiger", "sid_mlp")}
            for name, items in answers.items():
                top = items[:10].tolist()
                gain = 1 / math.log2(top.index(target) + 2) if target in top else 0.0
                gains[name, "all"].append(gain)
                gains[name, group].append(gain)
        for (name, group), values in gains.items():
            row = part.rows[name]
            found = row.metrics["ndcg@10"] if group == "all" else row.groups[group].ndcg_at_10
            assert found.value == pytest.approx(np.mean(values))
        assert len({np.mean(values) for (name, _), values in gains.items() if name == "tiger"}) > 2


def test_differences_are_paired_differences_of_rows(results: Results) -> None:
    for part in results.protocols.values():
        ndcg = {name: row.metrics["ndcg@10"].value for name, row in part.rows.items()}
        assert len(part.ndcg_at_10_differences) == 2 * (5 + 4)  # over the better model, and over the fixed weight
        for label, difference in part.ndcg_at_10_differences.items():
            left, right = label.split(" - ")
            assert difference.value == pytest.approx(ndcg[left] - ndcg[right])
            assert difference.low <= difference.value <= difference.high
        for name in ("tiger", "sid_mlp"):
            better = max(("sasrec", name), key=lambda single: ndcg[single])
            assert {
                f"candidates_{name} - {better}",
                f"learned_{name} - fixed_{name}",
            } <= part.ndcg_at_10_differences.keys()


def test_protocols_and_ensembles_differ(results: Results) -> None:
    """Otherwise the tests above could not tell them apart."""
    rows = {p: {name: row.metrics["ndcg@10"].value for name, row in results.protocols[p].rows.items()} for p in "AB"}
    assert rows["A"]["tiger"] != rows["B"]["tiger"]
    ensembles = [rows["B"][name] for name in ROWS[4:]]
    assert len(set(ensembles)) > len(ensembles) / 2


def test_results_survive_json(results: Results) -> None:
    assert Results.model_validate_json(results.model_dump_json()) == results


def test_results_say_what_they_are_of(results: Results, dataset: Dataset) -> None:
    assert results.bundle == "tiny@1"
    assert results.data["users"] == len(dataset.user_ids)
    assert results.data["items"] == ITEMS
    assert results.data["interactions"] == sum(map(len, dataset.sequences))
    assert results.ensembles["tiger"].method == "candidates"


def test_the_table_shows_every_number(results: Results) -> None:
    console = Console(file=io.StringIO(), width=200)
    print_results(results, console)
    text = console.file.getvalue()
    for protocol, part in results.protocols.items():
        assert f"protocol {protocol}" in text
        for name, row in part.rows.items():
            shown = [
                line
                for line in text.splitlines()
                if f" {name} " in line and f"{row.metrics['ndcg@10'].value:.4f}" in line
            ]
            assert shown


@pytest.mark.parametrize("change", ["renamed", "reordered", "fewer"])
def test_a_data_set_with_other_items_is_refused(bundle: Bundle, dataset: Dataset, change: str) -> None:
    ids = dataset.items["item_id"].to_pylist()
    other = {"renamed": [*ids[:-1], "X"], "reordered": ids[::-1], "fewer": ids[:-1]}[change]
    sequences = [np.minimum(sequence, len(other)) for sequence in dataset.sequences]
    changed = replace(dataset, items=pa.table({"item_id": other}), sequences=sequences)
    with pytest.raises(DataError, match=r"tiny@1 has 60 items, invented has .* their ids differ.*--data"):
        evaluate(bundle, changed, "test", QUIET)
