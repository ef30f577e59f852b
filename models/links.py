"""How often training links the candidates of one request with the last items of its history.

A candidate that both models rank low, but that often followed the last items in training, is a memorized answer all the
same: this is the evidence that `models.features` turns into numbers.

Shapes: `M` candidates.
"""

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, lower_bound
from models.transitions import FORWARD, Edges


@compiled
def count_links(edges: Edges, candidates: NDArray[np.int64], counts: NDArray[np.floating]) -> float:
    """Count the links of `candidates`: distinct item indexes, but for the empty slots (0), which have none.

    Args:
        edges: those of `models.context.Context`.
        candidates: item indexes [M].
        counts: filled, zeros before [2, HOPS, HOPS, M]: direction (forward: the candidate came after the history's
            item), place of the history's item (0 is the last one), exact distance less one, candidate.

    Returns:
        the training transitions of distance 1 that leave the last item, to any item.
    """
    slots = np.argsort(candidates)
    ascending = candidates[slots]
    outgoing = 0.0
    for edge in range(len(edges.neighbour)):
        side, place, hop = edges.side[edge], edges.position[edge], edges.hop[edge]
        if side == FORWARD and place == 0 and hop == 1:
            outgoing += edges.times[edge]
        at = lower_bound(ascending, edges.neighbour[edge])
        if at < len(ascending) and ascending[at] == edges.neighbour[edge]:
            counts[side, place, hop - 1, slots[at]] = edges.times[edge]
    return outgoing
