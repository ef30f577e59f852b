"""The categories against plain set arithmetic, on the whole index and on a handful of decoded rows."""

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.categories import Categories, categorize, context_window
from models.paths import TYPES, strongest_types
from models.transitions import DIRECTIONS, HOPS, Rows, RowTable, TransitionIndex, decode_row, encode_row
from training.index_build import build_index

NUM_ITEMS = 14
Rules = list[defaultdict[int, set[int]]]


def index_of(sequences: list[list[int]]) -> TransitionIndex:
    return build_index([np.array(sequence, dtype=np.int32) for sequence in sequences], NUM_ITEMS)


class Naive:
    """The published rule, word for word: sets that hold every distance up to h, tested hop by hop."""

    def __init__(self, sequences: list[list[int]]) -> None:
        self.rules: Rules = [defaultdict(set) for _ in range(HOPS + 1)]
        self.reverse_rules: Rules = [defaultdict(set) for _ in range(HOPS + 1)]
        for sequence in sequences:
            for start, u in enumerate(sequence):
                for gap, v in enumerate(sequence[start + 1 : start + 1 + HOPS], start=1):
                    for h in range(gap, HOPS + 1):
                        self.rules[h][u].add(v)
                        self.reverse_rules[h][v].add(u)

    def label(self, seq: list[int]) -> set[str]:
        v = seq[-1]
        if len(seq) < 2:
            return {"uncategorized"}  # an empty history; the published rule leaves it without a label
        if v in self.rules[1][seq[-2]]:
            return {"memorization"}
        tests = {
            "substitutability": self.substitutable,
            "symmetry": self.symmetric,
            "transitivity": self.transitive,
            "2nd-symmetry": self.second_order,
        }
        found = {label for name, test in tests.items() if (label := self.smallest(name, test, seq))}
        return found | {"generalization"} if found else {"uncategorized"}

    def smallest(self, name: str, test: Callable[[int, int, int], bool], seq: list[int]) -> str | None:
        for hop in range(2 if name == "substitutability" else 1, HOPS + 1):
            if len(seq) - hop - 1 < 0:
                continue
            if any(test(seq[-d - 1], seq[-1], hop) for d in range(1, hop + 1)):
                return f"{name}_{hop}"
        return None

    def substitutable(self, u: int, v: int, h: int) -> bool:
        return v in self.rules[h][u]

    def symmetric(self, u: int, v: int, h: int) -> bool:
        return u in self.rules[h][v]

    def transitive(self, u: int, v: int, h: int) -> bool:
        return bool(self.rules[h][u] & self.reverse_rules[h][v])

    def second_order(self, u: int, v: int, h: int) -> bool:
        reverse_path = self.rules[h][v] & self.reverse_rules[h][u]
        common_effect = self.rules[h][v] & self.rules[h][u]
        common_cause = self.reverse_rules[h][v] & self.reverse_rules[h][u]
        return bool(reverse_path | common_effect | common_cause)


sequences_of_items = st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=9), max_size=6)
# 0 and NUM_ITEMS + 1 are items that the index does not know.
any_item = st.integers(0, NUM_ITEMS + 1)
instances = st.lists(st.tuples(st.lists(any_item, max_size=7), any_item), min_size=1, max_size=25)


@settings(max_examples=120)
@given(sequences_of_items, instances)
def test_labels_are_those_of_set_arithmetic(sequences: list[list[int]], instances: list[tuple[list[int], int]]) -> None:
    histories, targets = [history for history, _ in instances], np.array([target for _, target in instances])
    found = categorize(index_of(sequences), histories, targets).labels()
    naive = Naive(sequences)
    assert [set(labels) for labels in found] == [naive.label([*history, target]) for history, target in instances]
    assert all(len(set(labels)) == len(labels) for labels in found)


def test_many_instances_are_labelled_as_set_arithmetic_does() -> None:
    """Enough of them for several blocks, and for every label to occur."""
    rng = np.random.default_rng(7)
    sequences = [rng.integers(1, NUM_ITEMS + 1, rng.integers(0, 7)).tolist() for _ in range(5)]
    histories = [rng.integers(1, NUM_ITEMS + 1, rng.integers(0, 8)).tolist() for _ in range(1500)]
    targets = rng.integers(1, NUM_ITEMS + 1, len(histories))
    naive = Naive(sequences)
    expected = [naive.label([*history, target]) for history, target in zip(histories, targets.tolist(), strict=True)]
    found = categorize(index_of(sequences), histories, targets)
    assert [set(labels) for labels in found.labels()] == expected
    by_label = Counter(label for labels in expected for label in labels)
    assert found.counts() == {**by_label, "n": len(histories)}


@pytest.mark.parametrize(
    ("sequences", "history", "expected"),
    [
        ([[1, 2]], [1], ("memorization",)),
        ([[1, 2]], [7, 7, 1], ("memorization",)),
        ([[1, 2]], [1, 7], ("substitutability_2", "generalization")),
        ([[2, 1]], [1], ("symmetry_1", "generalization")),
        ([[1, 3], [3, 2]], [1], ("transitivity_1", "generalization")),
        ([[3, 1], [3, 2]], [1], ("2nd-symmetry_1", "generalization")),  # common cause
        ([[1, 3], [2, 3]], [1], ("2nd-symmetry_1", "generalization")),  # common effect
        ([[2, 3], [3, 1]], [1], ("2nd-symmetry_1", "generalization")),  # reverse path
        ([[1, 8, 9, 2]], [7, 7, 1], ("substitutability_3", "transitivity_2", "generalization")),
        ([[1, 8, 9, 2]], [7, 1], ("transitivity_2", "generalization")),  # hop 3 is longer than the history
        ([[1, 8, 9, 2]], [1], ("uncategorized",)),
        ([[1, 3, 4, 5, 6, 2]], [7, 7, 7, 1], ("transitivity_3", "generalization")),  # five apart: no transition itself
        ([[1, 2]], [1, 7, 7, 7, 7], ("uncategorized",)),  # beyond the window of four
        ([[1, 2]], [], ("uncategorized",)),
    ],
)
def test_each_type_by_hand(sequences: list[list[int]], history: list[int], expected: tuple[str, ...]) -> None:
    assert categorize(index_of(sequences), [history], np.array([2])).labels() == [expected]


@settings(max_examples=60)
@given(
    sequences_of_items,
    st.lists(st.tuples(st.lists(any_item, max_size=6), st.lists(any_item, min_size=5, max_size=5)), max_size=4),
)
def test_candidates_of_a_request_are_categorized_from_their_rows_alone(
    sequences: list[list[int]], requests: list[tuple[list[int], list[int]]]
) -> None:
    """[n, K] candidates over a table of decoded rows equal n * K single targets over the whole index."""
    index = index_of(sequences)
    histories = [history for history, _ in requests]
    candidates = np.array([found for _, found in requests], dtype=np.int64).reshape(len(requests), 5)
    needed = {*context_window(histories).ravel().tolist(), *candidates.ravel().tolist()}
    rows = {item: Rows(*(decode_row(encode_row(index.row(side, item))) for side in DIRECTIONS)) for item in needed}
    one_by_one = categorize(index, [history for history in histories for _ in range(5)], candidates.ravel())
    together = categorize(RowTable(rows), histories, candidates)
    assert together.labels() == one_by_one.labels()
    assert together.hops.shape == (*candidates.shape, len(TYPES))
    assert together.group().shape == together.memorization.shape == candidates.shape


@pytest.mark.parametrize("shape", [(0,), (0, 10), (2, 0)])
def test_nothing_to_categorize(shape: tuple[int, ...]) -> None:
    found = categorize(index_of([[1, 2]]), [[1]] * shape[0], np.empty(shape, dtype=np.int64))
    assert found.hops.shape == (*shape, len(TYPES))
    assert found.labels() == []
    assert set(found.counts().values()) == {0}


def test_histories_and_targets_must_pair_up() -> None:
    with pytest.raises(ValueError, match="received 2 rows, 1 histories"):
        categorize(index_of([[1, 2]]), [[1]], np.array([1, 2]))


def test_the_window_reads_backwards_from_the_target() -> None:
    assert context_window([[9, 1, 2, 3, 4], [5], []]).tolist() == [[4, 3, 2, 1], [5, 0, 0, 0], [0, 0, 0, 0]]
    assert context_window([np.array([6, 7], dtype=np.int32)]).tolist() == [[7, 6, 0, 0]]


@pytest.mark.parametrize(
    ("hops", "expected"), [((2, 1, 1, 1), 1), ((2, 2, 3, 2), 0), ((0, 0, 0, 4), 3), ((0, 0, 2, 3), 2)]
)
def test_the_strongest_type_has_the_smallest_hop_and_stands_first(hops: tuple[int, ...], expected: int) -> None:
    types, smallest = strongest_types(np.array([hops], dtype=np.int8))
    assert (types.tolist(), smallest.tolist()) == ([expected], [hops[expected]])


def test_groups_and_counts() -> None:
    found = Categories(
        memorization=np.array([True, False, False]),
        hops=np.array([[0, 0, 0, 0], [2, 0, 0, 4], [0, 0, 0, 0]], dtype=np.int8),
    )
    assert found.group().tolist() == ["memorization", "generalization", "uncategorized"]
    assert found.labels() == [
        ("memorization",),
        ("substitutability_2", "2nd-symmetry_4", "generalization"),
        ("uncategorized",),
    ]
    raw = np.array([[1, 0, 0, 0], [2, 0, 0, 4], [0, 0, 0, 0]], dtype=np.int8)  # before memorization silences the types
    assert np.array_equal(Categories.of(raw).hops, found.hops)
    types, smallest = strongest_types(raw)
    assert types.tolist() == [0, 0, 0]
    assert smallest.tolist() == [1, 2, 0]
    positive = {label: count for label, count in found.counts().items() if count}
    assert positive == {
        "memorization": 1,
        "generalization": 1,
        "uncategorized": 1,
        "substitutability_2": 1,
        "2nd-symmetry_4": 1,
        "n": 3,
    }
