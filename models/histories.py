"""How a list of histories becomes one array: the same for training, evaluation and service."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

History = Sequence[int] | NDArray[np.integer]


def pad(histories: Sequence[History], longest: int) -> NDArray[np.int64]:
    """The last `longest` item indexes of each history, left-aligned, 0-padded: [B, L] with L >= 1."""
    kept = [history[-longest:] for history in histories]
    table = np.zeros((len(kept), max(1, max(map(len, kept), default=1))), dtype=np.int64)
    for row, history in zip(table, kept, strict=True):
        row[: len(history)] = history
    return table


def allow_all_but(hidden: Sequence[History], items: int) -> NDArray[np.bool_]:
    """Which of the items 0..N each request may be answered with, all but those in `hidden`: [B, N + 1]."""
    allowed = np.ones((len(hidden), items + 1), dtype=np.bool_)
    for row, indexes in zip(allowed, hidden, strict=True):
        row[np.asarray(indexes, dtype=np.int64)] = False
    return allowed
