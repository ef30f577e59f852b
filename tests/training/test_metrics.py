"""Ranking metrics against loops over users, and the bootstrap against the normal approximation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import CUTOFFS, bootstrap, ndcg, per_user, ranks, recall, summary

LENGTH = 12
# A list may end in empty slots (item 0), and the target may be absent from it.
users = st.lists(
    st.tuples(
        st.permutations(range(1, 21)).map(lambda items: items[:LENGTH]), st.integers(0, LENGTH), st.integers(1, 20)
    ),
    min_size=1,
    max_size=8,
)


def rank_by_search(items: list[int], target: int) -> int:
    return items.index(target) + 1 if target in items else 0


def dcg_by_formula(rank: int, k: int) -> float:
    return sum(1 / math.log2(place + 1) for place in range(1, k + 1) if place == rank)


@given(users)
def test_metrics_are_those_of_a_loop(answers: list[tuple[list[int], int, int]]) -> None:
    lists = [items[:kept] + [0] * (LENGTH - kept) for items, kept, _ in answers]
    targets = [target for *_, target in answers]
    expected = [rank_by_search(items, target) for items, target in zip(lists, targets, strict=True)]
    found = ranks(np.array(lists), np.array(targets, dtype=np.int32))
    assert found.tolist() == expected
    for k in (1, 5, 10, LENGTH):
        assert recall(found, k).tolist() == [float(1 <= rank <= k) for rank in expected]
        assert ndcg(found, k).tolist() == pytest.approx([dcg_by_formula(rank, k) for rank in expected])


def test_known_values() -> None:
    found = np.array([1, 2, 5, 6, 10, 11, 0])
    assert recall(found, 5).tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert recall(found, 10).tolist() == [1, 1, 1, 1, 1, 0, 0]
    expected = [1, 0.63093, 0.386853, 0.356207, 0.289065, 0, 0]
    assert ndcg(found, 10).tolist() == pytest.approx(expected, abs=1e-6)


def test_every_metric_at_every_cutoff_is_there() -> None:
    found = np.array([3, 0, 7])
    values = per_user(found)
    assert list(values) == [f"{name}@{k}" for k in CUTOFFS for name in ("recall", "ndcg")]
    assert {name: estimate.value for name, estimate in summary(found).items()} == {
        name: pytest.approx(column.mean()) for name, column in values.items()
    }


def test_interval_contains_the_mean_and_depends_only_on_the_seed() -> None:
    values = np.random.default_rng(0).random(200)
    estimate = bootstrap(values)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.value == values.mean()
    assert bootstrap(values) == estimate
    assert bootstrap(values, seed=1) != estimate


def test_width_is_that_of_the_normal_approximation() -> None:
    values = (np.random.default_rng(1).random(2000) < 0.1).astype(np.float64)
    estimate = bootstrap(values, resamples=2000)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.1)
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.1)


def test_resamples_are_drawn_with_replacement_from_all_users() -> None:
    """With one user in a hundred at 1, the resampled sum is nearly Poisson(1): 0 and 3 are its percentiles."""
    values = np.zeros(100)
    values[37] = 1.0
    assert bootstrap(values) == (0.01, 0.0, 0.03)


def test_a_paired_difference_is_narrower_than_the_systems_apart() -> None:
    random = np.random.default_rng(2)
    worse = random.random(500)
    better = worse + 0.01
    assert bootstrap(worse - worse) == (0.0, 0.0, 0.0)
    difference = bootstrap(better - worse)
    assert difference.low == pytest.approx(0.01)
    assert bootstrap(better).low < bootstrap(worse).high  # the unpaired intervals overlap


def test_no_users_no_number() -> None:
    assert all(math.isnan(number) for number in bootstrap(np.empty(0)))
