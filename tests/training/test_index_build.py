"""The SQL of the index against a Python loop."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.transitions import DIRECTIONS, HOPS, Direction, TransitionIndex
from training.index_build import build_index

NUM_ITEMS = 7
Sequences = list[list[int]]
# Few items and long sequences: self-transitions and repeated transitions are the common case.
sequences_of_items = st.lists(st.lists(st.integers(1, NUM_ITEMS), max_size=12), max_size=6)


def build(sequences: Sequences, num_items: int = NUM_ITEMS) -> TransitionIndex:
    return build_index([np.array(sequence, dtype=np.int32) for sequence in sequences], num_items)


def count_by_loop(sequences: Sequences) -> Counter[tuple[int, int, int]]:
    found: Counter[tuple[int, int, int]] = Counter()
    for sequence in sequences:
        for place, source in enumerate(sequence):
            for hop in range(1, HOPS + 1):
                if place + hop < len(sequence):
                    found[hop, source, sequence[place + hop]] += 1
    return found


def count_in(index: TransitionIndex, direction: Direction) -> dict[tuple[int, int, int], int]:
    """Every transition as (hop, source, destination) -> count, whichever the direction that it is read from."""
    found = {}
    for item in range(index.num_items + 1):
        row = index.row(direction, item)
        for hop, (neighbours, counts) in enumerate(zip(row.neighbours, row.counts, strict=True), start=1):
            for neighbour, count in zip(neighbours.tolist(), counts.tolist(), strict=True):
                ends = (item, neighbour) if direction == "forward" else (neighbour, item)
                found[hop, *ends] = count
    return found


@settings(max_examples=60)
@given(sequences_of_items)
def test_both_directions_hold_what_a_loop_counts(sequences: Sequences) -> None:
    index = build(sequences)
    for direction in DIRECTIONS:
        assert count_in(index, direction) == dict(count_by_loop(sequences))


@settings(max_examples=30)
@given(sequences_of_items)
def test_neighbours_ascend_and_arrays_are_narrow(sequences: Sequences) -> None:
    index = build(sequences)
    for adjacency in (index.forward, index.backward):
        assert {offsets.shape for offsets in adjacency.offsets} == {(NUM_ITEMS + 2,)}
        assert {str(offsets.dtype) for offsets in adjacency.offsets} == {"int64"}
        assert {str(values.dtype) for values in (*adjacency.neighbours, *adjacency.counts)} == {"int32"}
        for item in range(1, NUM_ITEMS + 1):
            assert all((np.diff(neighbours) > 0).all() for neighbours in adjacency.row(item).neighbours)


def test_an_item_may_follow_itself() -> None:
    index = build([[2, 2, 2]])
    row = index.row("forward", 2)
    assert [neighbours.tolist() for neighbours in row.neighbours] == [[2], [2], [], []]
    assert [counts.tolist() for counts in row.counts] == [[2], [1], [], []]


def test_transitions_do_not_cross_users() -> None:
    assert build([[1], [2], [], [3]]).forward.neighbours[0].size == 0


@pytest.mark.parametrize("sequences", [[[0, 1]], [[1, NUM_ITEMS + 1]], [[1, -1]]])
def test_an_index_outside_the_catalogue_is_refused(sequences: Sequences) -> None:
    with pytest.raises(DataError, match=rf"1\.\.{NUM_ITEMS}"):
        build(sequences)
