"""The vectorised k-core against a loop that removes one weak event at a time."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.data.kcore import kcore

Events = list[tuple[int, int]]


def naive_core(events: Events, k: int) -> list[bool]:
    alive = list(range(len(events)))
    while True:
        users = Counter(events[e][0] for e in alive)
        items = Counter(events[e][1] for e in alive)
        weak = [e for e in alive if users[events[e][0]] < k or items[events[e][1]] < k]
        if not weak:
            return [e in set(alive) for e in range(len(events))]
        alive.remove(weak[0])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60), st.integers(1, 5))
def test_matches_the_loop(events: Events, k: int) -> None:
    users = np.array([user for user, _ in events], dtype=np.int64)
    items = np.array([item for _, item in events], dtype=np.int64)
    assert kcore(users, items, k).tolist() == naive_core(events, k)


def test_removal_goes_on_until_nothing_changes() -> None:
    # Users 0 and 1 form a 2-core with items 0 and 1; user 2 holds on to item 2 only through user 3, who is too weak.
    users = np.array([0, 0, 1, 1, 2, 2, 3])
    items = np.array([0, 1, 0, 1, 0, 2, 2])
    assert kcore(users, items, 2).tolist() == [True] * 4 + [False] * 3
