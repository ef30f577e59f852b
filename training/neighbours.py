"""Neighbours of items in two senses: bought close together, and described alike (IIRG, arXiv 2606.17276).

Both are made of training sequences only, and both leave items out that training never saw.
Shapes: `N` items, `K` neighbours; tables have a row for the padding item 0, which is empty.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Sequences = Sequence[NDArray[np.int32]]
_BLOCK = 1024  # items whose similarities to all others are held at once


def collaborative_neighbours(sequences: Sequences, items: int, window: int, k: int) -> NDArray[np.int64]:
    """The `k` items that most users have within `window` events of each item: [N + 1, K], 0 where there are fewer.

    A user counts once a pair, however often they have it. Of equals the more popular comes first, then the smaller
    index.
    """
    size = items + 1
    pairs, count = _close_pairs(sequences, size, window)
    low, high = np.divmod(pairs, size)
    anchor, neighbour = np.concatenate([low, high]), np.concatenate([high, low])
    popularity = np.bincount(np.concatenate([*sequences, np.empty(0, np.int32)]), minlength=size)
    order = np.lexsort((neighbour, -popularity[neighbour], -np.tile(count, 2), anchor))
    anchor, neighbour = anchor[order], neighbour[order]
    rank = np.arange(len(anchor)) - np.searchsorted(anchor, anchor)
    table = np.zeros((size, k), dtype=np.int64)
    table[anchor[rank < k], rank[rank < k]] = neighbour[rank < k]
    return table


def _close_pairs(sequences: Sequences, size: int, window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Unordered pairs of different items within `window` events, as low * size + high, and how many users have each."""
    events = np.concatenate([*sequences, np.empty(0, np.int32)]).astype(np.int64)
    user = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    users, codes = [], []
    for distance in range(1, window + 1):
        one, other = events[distance:], events[:-distance]
        close = (user[distance:] == user[:-distance]) & (one != other)
        users.append(user[distance:][close])
        codes.append((np.minimum(one, other) * size + np.maximum(one, other))[close])
    # Pairs are numbered before users come in: user * N * N may not fit 64 bits.
    pairs, number = np.unique(np.concatenate(codes), return_inverse=True)
    once = np.unique(np.concatenate(users) * len(pairs) + number)
    return pairs, np.bincount(once % max(1, len(pairs)), minlength=len(pairs))


def semantic_neighbours(sequences: Sequences, vectors: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The `k` items whose `vectors` [N, d] have the largest cosine to each item's: [N + 1, K], 0 where there are fewer.

    An item without a direction (a vector of zeros) is as far from all others as a right angle.
    """
    items = np.unique(np.concatenate([*sequences, np.empty(0, np.int32)])).astype(np.int64)
    found = vectors[items - 1]
    directions = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    table = np.zeros((len(vectors) + 1, k), dtype=np.int64)
    kept = min(k, len(items) - 1)
    if kept < 1:
        return table
    for start in range(0, len(items), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(items)))
        similarity = directions[rows] @ directions.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        best = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
        order = np.argsort(-np.take_along_axis(similarity, best, axis=1), axis=1, kind="stable")
        table[items[rows], :kept] = items[np.take_along_axis(best, order, axis=1)]
    return table
