"""The pure parts of a request: rankings, fallbacks, and the strongest category."""

import numpy as np
import pytest

from models.categories import Categories
from models.transitions import EMPTY_ROW, Row
from service.answers import strongest
from service.candidates import POPULARITY, TRANSITIONS, Popularity, SourceList, successors


def row(*hops: dict[int, int]) -> Row:
    """A row from neighbours and counts by distance."""
    return Row(
        tuple(np.array(sorted(hop), dtype=np.int32) for hop in hops),
        tuple(np.array([hop[item] for item in sorted(hop)], dtype=np.int32) for hop in hops),
    )


def test_a_source_list_leaves_empty_slots_out() -> None:
    found = SourceList.of(np.array([[4, 2, 0]]), np.array([[0.5, 0.25, -np.inf]]))
    assert found == SourceList([4, 2], [0.5, 0.25])


def test_successors_come_nearest_first_then_by_count_each_once_and_allowed() -> None:
    last = row({5: 1, 2: 3, 9: 7}, {2: 9, 1: 2}, {}, {8: 1})
    allowed = np.ones(11, dtype=np.bool_)
    allowed[9] = False
    found = successors(last, allowed)
    assert found.ranking == SourceList([2, 5, 1, 8], [3.0, 1.0, 2.0, 1.0])
    assert found.fallback == TRANSITIONS
    assert successors(EMPTY_ROW, allowed).ranking == SourceList([], [])


def test_popularity_is_ordered_by_count_and_skips_what_is_taken_or_not_allowed() -> None:
    popularity = Popularity(np.array([99, 5, 7, 5, 0, 8]))
    allowed = np.ones(6, dtype=np.bool_)
    assert popularity.best(allowed, 10) == [5, 2, 1, 3, 4]
    assert popularity.best(allowed, 2, taken=[5]) == [2, 1]
    allowed[[2, 1]] = False
    assert popularity.best(allowed, 10) == [5, 3, 4]
    assert popularity.best(allowed, 0) == []
    assert popularity.entry(1) == (3, 5.0)
    whole = popularity.candidates(allowed, 2)
    assert (whole.ranking, whole.sources, whole.fallback) == (SourceList([5, 3], [8, 5]), {}, POPULARITY)


@pytest.mark.parametrize(
    ("memorization", "hops", "expected"),
    [
        (True, (0, 0, 0, 0), "memorization"),
        (False, (0, 0, 0, 0), "uncategorized"),
        (False, (2, 1, 1, 1), "symmetry_1"),
        (False, (2, 2, 3, 2), "substitutability_2"),
        (False, (0, 0, 0, 4), "2nd-symmetry_4"),
    ],
)
def test_the_strongest_category(memorization: bool, hops: tuple[int, ...], expected: str) -> None:
    found = Categories(np.array([[memorization]]), np.array([[hops]], dtype=np.int8))
    assert strongest(found) == [expected]
