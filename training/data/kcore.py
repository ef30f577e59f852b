"""Iterative k-core filtering of interactions."""

import numpy as np
from numpy.typing import NDArray


def kcore(users: NDArray[np.integer], items: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Mark the events of the k-core: every user and every item left has at least k of the marked events.

    users, items: [E] non-negative codes of the E events; a repeated (user, item) pair counts every time. The result is
    the one largest such set, so neither the order of the events nor the side filtered first matters.
    """
    kept = np.ones(len(users), dtype=np.bool_)
    while True:
        weak_user = np.bincount(users[kept], minlength=_size(users)) < k
        weak_item = np.bincount(items[kept], minlength=_size(items)) < k
        survivors = kept & ~weak_user[users] & ~weak_item[items]
        if np.array_equal(survivors, kept):
            return kept
        kept = survivors


def _size(codes: NDArray[np.integer]) -> int:
    return int(codes.max()) + 1 if len(codes) else 0
