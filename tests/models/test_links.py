"""Links against a loop over the training sequences."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.context import Context
from models.links import count_links
from models.transitions import HOPS
from training.index_build import build_index

ITEMS = 8
sequences = st.lists(st.lists(st.integers(1, ITEMS), max_size=9), min_size=1, max_size=8)


def counted(walks: list[list[int]], source: int, target: int, distance: int) -> int:
    return sum(pair == (source, target) for walk in walks for pair in zip(walk, walk[distance:], strict=False))


@settings(max_examples=60)
@given(sequences, st.lists(st.integers(1, ITEMS), max_size=7), st.permutations(range(1, ITEMS + 1)))
def test_links_are_counted_as_by_a_loop(walks: list[list[int]], history: list[int], order: list[int]) -> None:
    index = build_index([np.array(walk, dtype=np.int32) for walk in walks], ITEMS)
    candidates = np.array([*order[:6], 0, 0])
    counts = np.zeros((2, HOPS, HOPS, len(candidates)))
    outgoing = count_links(Context.of(history, index).edges, candidates, counts)
    recent = history[::-1][:HOPS]
    for place in range(HOPS):
        for distance in range(1, HOPS + 1):
            for column, candidate in enumerate(candidates.tolist()):
                forward, backward = counts[:, place, distance - 1, column]
                known = place < len(recent) and candidate > 0
                assert forward == (counted(walks, recent[place], candidate, distance) if known else 0)
                assert backward == (counted(walks, candidate, recent[place], distance) if known else 0)
    leaving = sum(counted(walks, recent[0], item, 1) for item in range(1, ITEMS + 1)) if recent else 0
    assert outgoing == leaving


def test_an_unknown_item_links_nothing() -> None:
    index = build_index([np.array([1, 2, 3], dtype=np.int32)], 3)
    counts = np.zeros((2, HOPS, HOPS, 2))
    count_links(Context.of([3], index).edges, np.array([1, 2]), counts)
    assert not counts[0].any()
    assert counts[1].any()
