"""The one-hop view of memorization: direct successors of the whole history, not of its last item alone.

After Kim et al., arXiv 2606.17276: a user's one-hop candidates are the items that directly followed any item of the
history in training. A model's one-hop ratio is the share of its top 5 among them; a user benefits from memorization
(MB) when the target is among them, and is NMB otherwise.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.histories import History
from models.transitions import TransitionIndex

KEPT = 50
TOP = 5
_BLOCK = 4096  # users at a time: the successors of all of them at once would fill the memory


def one_hop_candidates(index: TransitionIndex, histories: Sequence[History]) -> NDArray[np.int64]:
    """The `KEPT` most frequent direct successors of each history: [n, KEPT], most frequent first, 0 where fewer.

    A successor's frequency is how often it followed any of the history's distinct items in training; of equally
    frequent ones the smaller item index comes first.
    """
    blocks = [_candidates(index, histories[start : start + _BLOCK]) for start in range(0, len(histories), _BLOCK)]
    return np.concatenate([*blocks, np.empty((0, KEPT), dtype=np.int64)])


def benefits_from_memorization(candidates: NDArray[np.int64], targets: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which users are MB: their target [n] is among their one-hop `candidates` [n, KEPT]."""
    benefits: NDArray[np.bool_] = (candidates == targets[:, None]).any(axis=1)
    return benefits


def one_hop_ratio(items: NDArray[np.int64], candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share [n] of each list's first `TOP` items that are among the one-hop `candidates` [n, KEPT].

    `items` is [n, K], best first; empty slots (0) do not count, and a list without items has ratio 0.
    """
    top = items[:, :TOP]
    listed = top > 0
    hits = (top[:, :, None] == candidates[:, None, :]).any(axis=2) & listed
    ratio: NDArray[np.float64] = hits.sum(axis=1) / np.maximum(listed.sum(axis=1), 1)
    return ratio


def _candidates(index: TransitionIndex, histories: Sequence[History]) -> NDArray[np.int64]:
    size = index.num_items + 1
    owner = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    items = np.concatenate([np.asarray(history, dtype=np.int64) for history in histories])
    user, item = np.divmod(np.unique(owner * size + items), size)
    after = index.forward
    offsets, neighbours, counts = after.offsets[0], after.neighbours[0], after.counts[0]
    lengths = offsets[item + 1] - offsets[item]
    # Where each successor lies in `neighbours`: its row's start, plus its place among this row's entries.
    entry = np.arange(lengths.sum()) + np.repeat(offsets[item] - (np.cumsum(lengths) - lengths), lengths)
    pairs, place = np.unique(np.repeat(user, lengths) * size + neighbours[entry], return_inverse=True)
    frequency = np.bincount(place, counts[entry])
    order = np.lexsort((pairs, -frequency, pairs // size))
    user, successor = np.divmod(pairs[order], size)
    rank = np.arange(len(user)) - np.searchsorted(user, user)
    table = np.zeros((len(histories), KEPT), dtype=np.int64)
    kept = rank < KEPT
    table[user[kept], rank[kept]] = successor[kept]
    return table
