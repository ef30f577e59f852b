"""Explanations against plain loops over all paths, and by hand."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.categories import GROUPS, categorize
from models.context import Context
from models.explanations import Explanation, explain
from models.paths import TYPES
from models.transitions import DIRECTIONS, HOPS, Rows, RowTable, decode_row, encode_row
from tests.models.test_categories import NUM_ITEMS, Naive, any_item, index_of, sequences_of_items

TYPE = {
    ("forward",): "substitutability",
    ("backward",): "symmetry",
    ("forward", "backward"): "transitivity",
    ("forward", "forward"): "2nd-symmetry",
    ("backward", "forward"): "2nd-symmetry",
    ("backward", "backward"): "2nd-symmetry",
}


class NaiveExplanations:
    """Every path, one after the other, with counts read off the sequences."""

    def __init__(self, sequences: list[list[int]]) -> None:
        self.labels = Naive(sequences)
        self.counts: Counter[tuple[int, int, int]] = Counter(
            (u, v, gap)
            for sequence in sequences
            for start, u in enumerate(sequence)
            for gap, v in enumerate(sequence[start + 1 : start + 1 + HOPS], start=1)
        )

    def explain(self, history: list[int], target: int) -> Explanation | None:
        labels = self.labels.label([*history, target])
        if "uncategorized" in labels:
            return None
        if "memorization" in labels:
            kind, hop = "substitutability", 1
        else:
            types = [(label[:-2], int(label[-1])) for label in labels - set(GROUPS)]
            kind, hop = min(types, key=lambda found: (found[1], TYPES.index(found[0])))
        paths = [path for path in self.paths(history, target, hop) if TYPE[path[-1]] == kind]
        support, place, middle, legs = min(paths, key=lambda path: (-path[0], path[1], path[2], forward_first(path[3])))
        return Explanation(
            category="memorization" if (kind, hop) == ("substitutability", 1) else kind,
            hop=hop,
            support=support,
            via=history[-place],
            through=None if len(legs) == 1 else middle,
            legs=legs,
        )

    def paths(self, history: list[int], target: int, hop: int) -> Iterator[tuple[int, int, int, tuple[str, ...]]]:
        """Support, place, middle item and legs of all paths within `hop`."""
        for place in range(1, min(hop, len(history)) + 1):
            via = history[-place]
            for first in DIRECTIONS:
                if count := self.within(via, target, first, hop):
                    yield count, place, target, (first,)
            for middle, first, second in product(range(1, NUM_ITEMS + 1), DIRECTIONS, DIRECTIONS):
                counts = self.within(via, middle, first, hop), self.within(target, middle, second, hop)
                if min(counts):
                    yield min(counts), place, middle, (first, second)

    def within(self, start: int, end: int, direction: str, hop: int) -> int:
        u, v = (start, end) if direction == "forward" else (end, start)
        return sum(self.counts[u, v, gap] for gap in range(1, hop + 1))


def forward_first(legs: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(leg != "forward" for leg in legs)


def explained(sequences: list[list[int]], history: list[int], targets: list[int]) -> list[Explanation | None]:
    """From decoded rows of the last items and the targets alone, as a cache delivers them."""
    index, needed = index_of(sequences), {*history[-HOPS:], *targets}
    rows = {item: Rows(*(decode_row(encode_row(index.row(side, item))) for side in DIRECTIONS)) for item in needed}
    table = RowTable(rows)
    return explain(Context.of(history, table), table, np.array(targets, dtype=np.int64))[1]


@settings(max_examples=120)
@given(sequences_of_items, st.lists(any_item, max_size=7), st.lists(any_item, max_size=8))
def test_the_strongest_path_is_that_of_plain_loops(
    sequences: list[list[int]], history: list[int], targets: list[int]
) -> None:
    naive = NaiveExplanations(sequences)
    assert explained(sequences, history, targets) == [naive.explain(history, target) for target in targets]


def test_many_items_are_explained_as_plain_loops_do_and_as_they_are_categorized() -> None:
    """Enough of them for every category at every hop to occur, and every shape of a path."""
    rng = np.random.default_rng(7)
    sequences = [rng.integers(1, NUM_ITEMS + 1, rng.integers(0, 7)).tolist() for _ in range(5)]
    naive, index = NaiveExplanations(sequences), index_of(sequences)
    seen: set[tuple[str, ...]] = set()
    for _ in range(150):
        history = rng.integers(1, NUM_ITEMS + 1, rng.integers(0, 8)).tolist()
        targets = rng.permutation(NUM_ITEMS)[:10] + 1
        categories, found = explain(Context.of(history, index), index, targets)
        assert found == [naive.explain(history, target) for target in targets.tolist()]
        assert categories.labels() == categorize(index, [history], targets[np.newaxis]).labels()
        for labels, explanation in zip(categories.labels(), found, strict=True):
            assert (explanation is None) == (labels == ("uncategorized",))
            if explanation is not None:
                assert explanation.label in labels
                seen |= {(explanation.label,), explanation.legs}
    assert {legs for legs in seen if legs[0] in DIRECTIONS} == set(TYPE)
    assert {"memorization", "symmetry_1", "transitivity_2", "2nd-symmetry_3"} <= {label for label, *_ in seen}


@pytest.mark.parametrize(
    ("sequences", "history", "expected"),
    [
        # Twice right after the last item; the item before it, and longer distances, have no say in memorization.
        ([[1, 2], [1, 2, 9, 2], [7, 2]], [7, 1], ("memorization", 1, 2, 1, None, ("forward",))),
        # One step and two steps count alike within hop 2.
        ([[7, 2], [7, 3, 2]], [7, 1], ("substitutability", 2, 2, 7, None, ("forward",))),
        ([[2, 1], [2, 1]], [1], ("symmetry", 1, 2, 1, None, ("backward",))),
        # Through 3 the rarer leg was seen twice, through 4 once, however often the other leg was.
        (
            [[1, 3], [1, 3], [3, 2], [3, 2], [1, 4], [1, 4], [1, 4], [4, 2]],
            [1],
            ("transitivity", 1, 2, 1, 3, ("forward", "backward")),
        ),
        # Equally strong: the smaller item in the middle.
        ([[1, 4], [4, 2], [1, 3], [3, 2]], [1], ("transitivity", 1, 1, 1, 3, ("forward", "backward"))),
        # Equally strong: the nearest history item.
        ([[7, 9, 3], [6, 3], [2, 3]], [6, 7], ("2nd-symmetry", 2, 1, 7, 3, ("forward", "forward"))),
        # The stronger path, though its history item is farther away.
        ([[7, 9, 3], [6, 3], [6, 3], [2, 3], [2, 3]], [6, 7], ("2nd-symmetry", 2, 2, 6, 3, ("forward", "forward"))),
        ([[3, 1], [3, 2]], [1], ("2nd-symmetry", 1, 1, 1, 3, ("backward", "backward"))),
        ([[1, 3], [2, 3]], [1], ("2nd-symmetry", 1, 1, 1, 3, ("forward", "forward"))),
        ([[2, 3], [3, 1]], [1], ("2nd-symmetry", 1, 1, 1, 3, ("backward", "forward"))),
        ([[1, 3]], [1], None),
        ([[1, 2]], [], None),
    ],
)
def test_each_type_by_hand(sequences: list[list[int]], history: list[int], expected: tuple[object, ...] | None) -> None:
    assert explained(sequences, history, [2]) == [expected]


def test_nothing_to_explain() -> None:
    assert explained([[1, 2]], [1], []) == []
