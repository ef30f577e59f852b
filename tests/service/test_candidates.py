"""The pure parts of a request: rankings, fallbacks, and explanations as they go out."""

import numpy as np
import pyarrow as pa
import pytest

from models.catalogue import Catalogue
from models.context import Context
from models.explanations import Explanation
from models.transitions import EMPTY_ROW, Row, Rows, RowTable
from service.answers import explained
from service.candidates import POPULARITY, TRANSITIONS, Popularity, SourceList, successors
from service.schemas import ItemExplanation


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
    before_last = row({1: 99}, {}, {}, {})
    table = RowTable({7: Rows(last, row({3: 99}, {}, {}, {})), 6: Rows(before_last, EMPTY_ROW)})
    found = successors(Context.of([6, 7], table), allowed)
    assert found.ranking == SourceList([2, 5, 1, 8], [3.0, 1.0, 2.0, 1.0])
    assert found.fallback == TRANSITIONS
    assert successors(Context.of([4], table), allowed).ranking == SourceList([], [])


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
    ("explanation", "text"),
    [
        (
            Explanation("memorization", 1, 12, 1, None, ("forward",)),
            "C came right after A, 12 times in earlier sequences.",
        ),
        (
            Explanation("symmetry", 3, 1, 1, None, ("backward",)),
            "C came within 3 steps before A, 1 time in earlier sequences.",
        ),
        (
            Explanation("transitivity", 1, 2, 1, 2, ("forward", "backward")),
            "C came right after B, and B right after A, at least 2 times each in earlier sequences.",
        ),
        (
            Explanation("2nd-symmetry", 2, 1, 1, 2, ("forward", "forward")),
            "C came within 2 steps before B, and B within 2 steps after A, at least 1 time each in earlier sequences.",
        ),
        (
            Explanation("2nd-symmetry", 1, 5, 1, 2, ("backward", "backward")),
            "C came right after B, and B right before A, at least 5 times each in earlier sequences.",
        ),
    ],
)
def test_an_explanation_goes_out_with_the_ids_of_the_caller(explanation: Explanation, text: str) -> None:
    catalogue = Catalogue(["A", "B", "C"], np.zeros((4, 1), dtype=np.int64), pa.table({"title": ["", "", ""]}))
    found = explained(3, explanation, catalogue)
    assert found == ItemExplanation(
        category=explanation.category,
        hop=explanation.hop,
        support=explanation.support,
        via="A",
        through=explanation.through and "B",
        text=text,
    )
