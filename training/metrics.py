"""Ranking metrics with one held-out item a user, and bootstrap intervals over users.

Recall@k is 1 when the target is among the first k items; NDCG@k is 1 / log2(rank + 1) then (rank from 1), else 0.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]

CUTOFFS = (5, 10)
RESAMPLES = 1000


class Estimate(NamedTuple):
    """A mean over users with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def ranks(items: NDArray[np.int64], targets: NDArray[np.integer]) -> Ranks:
    """Rank of each target [n] in its list [n, K], from 1; 0 where the list lacks it."""
    hits = items == np.asarray(targets)[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def recall(ranks: Ranks, k: int) -> Floats:
    """Recall@k of every user."""
    return ((ranks > 0) & (ranks <= k)).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Floats:
    """NDCG@k of every user."""
    gains: Floats = recall(ranks, k) / np.log2(np.maximum(ranks, 1) + 1)
    return gains


def per_user(ranks: Ranks) -> dict[str, Floats]:
    """R@5, N@5, R@10 and N@10 of every user."""
    return {name: metric(ranks, k) for k in CUTOFFS for name, metric in ((f"recall@{k}", recall), (f"ndcg@{k}", ndcg))}


def bootstrap(values: Floats, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of `values` [n] with the 2.5 and 97.5 percentiles of the means of resampled users.

    Passing differences of two systems gives the paired interval of their difference.
    """
    if len(values) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def summary(ranks: Ranks, *, seed: int = 0) -> Mapping[str, Estimate]:
    """Every metric with its interval."""
    return {name: bootstrap(values, seed=seed) for name, values in per_user(ranks).items()}
