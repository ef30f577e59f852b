"""How much of an item's semantic id training has already seen to follow a history: memorization by tokens.

After Ding et al., arXiv 2603.19809, section 4.2, as its code computes it. The prefix of length n is memorized at hop h
when training saw it within distance h of the prefix of a history item at most h before the target. Unlike the item
categories (`models.categories`), a history shorter than h leaves hop h in force for the items it does have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.categories import context_window
from models.histories import History
from models.prefixes import PrefixTransitions
from models.transitions import HOPS

_NEVER = HOPS + 1
# [HOPS, HOPS]: the smallest hop that admits a history item d before the target and a training distance of g: max(d, g).
_HOP = np.maximum.outer(np.arange(1, HOPS + 1), np.arange(1, HOPS + 1))


@dataclass(frozen=True)
class TokenMemorization:
    """Memorized prefixes of targets. The leading shape is that of the targets: [n], or [n, K]; `L` codes an item."""

    length: NDArray[np.int8]
    """[...]: codes in the longest memorized prefix, 0 where not even one code is memorized, L for the item itself."""
    hop: NDArray[np.int8]
    """[...]: the smallest hop that memorizes this prefix, 0 where there is none."""
    support: NDArray[np.int64]
    """[..., L]: C_n(history, target), n = 1..L: training transitions within HOPS, from any of the last HOPS items."""


def memorize(
    prefixes: Sequence[PrefixTransitions], histories: Sequence[History], targets: NDArray[np.integer]
) -> TokenMemorization:
    """Find the longest memorized prefix of each target after its history.

    `prefixes` has the transitions for lengths 1..L in order. `histories` are n sequences of item indexes, the most
    recent last; they may be empty. `targets` is [n], one for each history, or [n, K], K candidates for each.
    """
    candidates = targets.reshape(len(histories), int(np.prod(targets.shape[1:])))
    window = context_window(histories)
    length, hop = (np.zeros(candidates.shape, dtype=np.int8) for _ in range(2))
    support = np.zeros((*candidates.shape, len(prefixes)), dtype=np.int64)
    for level, transitions in enumerate(prefixes):
        counts = transitions.between(window[:, None, :], candidates[:, :, None])  # n, K, place in the window, distance
        support[..., level] = counts.sum(axis=(2, 3))
        smallest = np.where(counts > 0, _HOP, _NEVER).min(axis=(2, 3))
        memorized = smallest < _NEVER
        length[memorized], hop[memorized] = level + 1, smallest[memorized]
    shape = targets.shape
    return TokenMemorization(length.reshape(shape), hop.reshape(shape), support.reshape(*shape, len(prefixes)))
