"""What the report computes, each by hand or against a loop."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from rich.console import Console

from models.bundle import Bundle
from models.categories import Categories, categorize
from models.indicators import Ranked
from models.prefixes import prefix_transitions
from models.token_memorization import TokenMemorization, memorize
from tests.bundles import ITEMS
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Instances
from training.lists import Lists
from training.report.indicators import indicator_values, quantiles
from training.report.prefixes import prefixes_by_category, print_prefixes
from training.report.slices import by_category, slices
from training.report.statistics import statistics
from training.report.strengths import strength_map, transition_strength


def some_categories() -> Categories:
    """Four instances: memorization; symmetry at 2 and transitivity at 1; 2nd-order symmetry at 4; nothing."""
    hops = np.array([[0, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0, 4], [0, 0, 0, 0]], dtype=np.int8)
    return Categories(np.array([True, False, False, False]), hops)


def some_tokens() -> TokenMemorization:
    """Semantic ids of three codes."""
    length, hop = np.array([3, 1, 2, 1], dtype=np.int8), np.ones(4, dtype=np.int8)
    return TokenMemorization(length, hop, np.zeros((4, 3), dtype=np.int64))


def test_a_slice_is_the_mean_of_its_instances() -> None:
    parts = {"odd": np.array([False, True, False, True]), "none": np.zeros(4, dtype=bool)}
    found = slices(parts, {"sasrec": np.array([1.0, 0.5, 0.25, 0.0]), "tiger": np.zeros(4)})
    assert (found["odd"].n, found["odd"].share) == (2, 0.5)
    assert found["odd"].ndcg_at_10["sasrec"].value == 0.25
    assert found["odd"].ndcg_at_10["sasrec"].low == 0.0
    assert found["odd"].ndcg_at_10["sasrec"].high == 0.5
    assert found["odd"].ndcg_at_10["tiger"] == (0, 0, 0)
    assert (found["none"].n, found["none"].share, found["none"].ndcg_at_10) == (0, 0.0, {})


def test_categories_are_parts() -> None:
    found = {name: np.flatnonzero(part).tolist() for name, part in by_category(some_categories()).items()}
    assert {name: rows for name, rows in found.items() if rows} == {
        "memorization": [0],
        "generalization": [1, 2],
        "uncategorized": [3],
        "symmetry_2": [1],
        "transitivity_1": [1],
        "2nd-symmetry_4": [2],
    }


def test_category_parts_have_the_sizes_that_categorize_counts(bundle: Bundle) -> None:
    instances = tiny_dataset(bundle).instances("test")
    categories = categorize(bundle.transitions, instances.histories, instances.targets)
    counts = categories.counts()
    assert {name: int(part.sum()) for name, part in by_category(categories).items()} == {
        label: count for label, count in counts.items() if label != "n"
    }


def test_categories_meet_prefixes() -> None:
    table = prefixes_by_category(some_categories(), some_tokens())
    assert {label: list(columns.values()) for label, columns in table.items()} == {
        "memorization": [1, 0, 0, 0],
        "substitutability": [0, 0, 0, 0],
        "symmetry": [0, 0, 1, 0],
        "transitivity": [0, 0, 1, 0],
        "2nd-symmetry": [0, 1, 0, 0],
        "generalization": [0, 1, 1, 0],
        "uncategorized": [0, 0, 1, 0],
        "all but memorization": [0, 1, 2, 0],
    }
    assert list(table["symmetry"]) == ["3", "2", "1", "0"]
    console = Console(file=io.StringIO(), width=120)
    print_prefixes(table, console)
    line = next(line for line in console.file.getvalue().splitlines() if "all but" in line)
    assert line.replace("│", " ").split() == ["all", "but", "memorization", "3", "0.00%", "33.33%", "66.67%", "0.00%"]


def test_strengths_are_those_of_a_loop(bundle: Bundle) -> None:
    instances = tiny_dataset(bundle).instances("test")
    prefixes = prefix_transitions(bundle.transitions, bundle.catalogue.codes)
    phi, psi = transition_strength(prefixes[-1], instances), transition_strength(prefixes[1], instances)
    prefix = [tuple(codes[:2]) for codes in bundle.catalogue.codes.tolist()]
    pairs = [
        (item, after, int(count))
        for item in range(1, ITEMS + 1)
        for row in [bundle.transitions.row("forward", item)]
        for after, count in zip(row.neighbours[0].tolist(), row.counts[0], strict=True)
    ]

    def share(leaves: Callable[[int], bool], arrives: Callable[[int], bool]) -> float:
        leaving = [(v, count) for u, v, count in pairs if leaves(u)]
        return sum(count for v, count in leaving if arrives(v)) / max(1, sum(count for _, count in leaving))

    for row, (history, target) in enumerate(zip(instances.histories, instances.targets.tolist(), strict=True)):
        last = int(history[-1])
        assert phi[row] == pytest.approx(share(lambda u, a=last: u == a, lambda v, b=target: v == b))  # type: ignore[misc]
        assert psi[row] == pytest.approx(
            share(lambda u, a=last: prefix[u] == prefix[a], lambda v, b=target: prefix[v] == prefix[b])  # type: ignore[misc]
        )
    assert 0 < np.count_nonzero(phi) < np.count_nonzero(psi)


def test_the_map_holds_means_by_quantile() -> None:
    """Quartiles of 1..8 end at 2.75, 4.5 and 6.25; two thirds of phi are equal, so its quartiles merge to two."""
    phi = np.array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.9, 1.0])
    psi = np.arange(1.0, 9.0)
    found = strength_map(phi, psi, np.array([0.0, 0.2, -0.2, 0.4, 0.1, 0.3, 0.6, 1.0]))
    assert found.phi_edges == pytest.approx([0.5, 0.6, 1.0])
    assert found.psi_edges == pytest.approx([1, 2.75, 4.5, 6.25, 8])
    assert found.n == [[2, 2, 2, 0], [0, 0, 0, 2]]
    means = [[cell and cell.value for cell in row] for row in found.difference]
    assert means == [[pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.2), None], [None, None, None, 0.8]]


def test_a_value_on_an_edge_belongs_to_the_lower_quantile() -> None:
    found = strength_map(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.full(5, 0.5), np.zeros(5))
    assert found.phi_edges == [1, 2, 3, 4, 5]
    assert found.psi_edges == [0.5]
    assert found.n == [[], [], [], []]


def test_quantiles_are_equal_parts_in_the_order_of_the_indicator() -> None:
    indicator = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.4, 0.6, 0.8, 0.5])
    found = quantiles(indicator, indicator > 0.55, {"sasrec": indicator})
    assert [(one.low, one.high) for one in found] == [(0.1, 0.2), (0.3, 0.4), (0.5, 0.5), (0.6, 0.7), (0.8, 0.9)]
    assert [one.memorization for one in found] == [0, 0, 0, 1, 1]
    assert [one.n for one in found] == [2] * 5
    assert [one.ndcg_at_10["sasrec"].value for one in found] == pytest.approx([0.15, 0.35, 0.5, 0.65, 0.85])


def test_equal_values_keep_the_order_of_the_instances() -> None:
    found = quantiles(np.zeros(10), np.arange(10) < 2, {"sasrec": np.arange(10.0)})
    assert [one.memorization for one in found] == [1, 0, 0, 0, 0]
    assert [one.ndcg_at_10["sasrec"].value for one in found] == [0.5, 2.5, 4.5, 6.5, 8.5]


def test_an_unfitted_bundle_has_the_indicators_that_need_no_fit(bundle: Bundle) -> None:
    item = int(bundle.transitions.row("forward", 1).neighbours[0][0])
    ranked = Ranked(
        np.array([[item, 1]]), np.log(np.array([[0.25, 0.5]], dtype=np.float32)), np.float32([0.5]), np.float32([0.0])
    )
    instances = Instances(np.zeros(1, dtype=np.int64), [np.array([1], dtype=np.int32)], np.array([2], dtype=np.int32))
    found = indicator_values(bundle, Lists(ranked, {}), instances)
    assert {name: values.tolist() for name, values in found.items()} == {
        "msp": [0.5],
        "transition": [pytest.approx(0.25)],
    }


def test_statistics_are_those_of_a_loop(bundle: Bundle) -> None:
    dataset = tiny_dataset(bundle)
    found = statistics(dataset, dataset.instances("test"))
    lengths = sorted(map(len, dataset.sequences))
    tested = [sequence.tolist() for sequence in dataset.sequences if len(sequence) >= 3]
    trained = {
        item for sequence in dataset.sequences for item in sequence[: -2 if len(sequence) > 2 else None].tolist()
    }
    assert (found.users, found.items, found.interactions) == (len(lengths), ITEMS, sum(lengths))
    assert found.sparsity == pytest.approx(1 - sum(lengths) / len(lengths) / ITEMS)
    assert (found.mean_length, found.longest) == (pytest.approx(sum(lengths) / len(lengths)), lengths[-1])
    assert found.median_length == (lengths[29] + lengths[30]) / 2
    assert found.instances == len(tested)
    assert found.unseen_targets == pytest.approx(np.mean([sequence[-1] not in trained for sequence in tested]))
    assert found.repeated_targets == pytest.approx(np.mean([sequence[-1] in sequence[:-1] for sequence in tested]))
    assert found.repeated_targets > 0


def test_memorized_prefixes_of_a_bundle_are_longest_where_the_item_is_memorized(bundle: Bundle) -> None:
    """Item memorization and substitutability are memorization of the whole semantic id."""
    instances = tiny_dataset(bundle).instances("test")
    categories = categorize(bundle.transitions, instances.histories, instances.targets)
    prefixes = prefix_transitions(bundle.transitions, bundle.catalogue.codes)
    table = prefixes_by_category(categories, memorize(prefixes, instances.histories, instances.targets))
    for label in ("memorization", "substitutability"):
        assert next(iter(table[label].values())) == sum(table[label].values()) > 0
