"""How often training links the candidates of one request with the last items of its history.

A candidate that both models rank low, but that often followed the last items in training, is a memorized answer all the
same: this is the evidence that `models.features` turns into numbers.

Shapes: `M` candidates.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, lower_bound
from models.transitions import DIRECTIONS, HOPS, Edges


class Links(NamedTuple):
    """The transitions between the last items of a history and candidates.

    Attributes:
        counts: float64 [2, HOPS, HOPS, M]: direction (forward: the candidate came after the history's item), place of
            the history's item (0 is the last one), exact distance less one, candidate.
        outgoing: training transitions of distance 1 that leave the last item, to any item.
    """

    counts: NDArray[np.float64]
    outgoing: float


def links(edges: Edges, candidates: NDArray[np.int64]) -> Links:
    """Count the links of `candidates` [M]: distinct item indexes, but for the empty slots (0), which have none.

    `edges` are those of `models.context.Context`.
    """
    order = np.argsort(candidates)
    counts = np.zeros((len(DIRECTIONS), HOPS, HOPS, len(candidates)))
    outgoing = _count(edges, candidates[order], order, counts)
    return Links(counts, outgoing)


@compiled
def _count(edges: Edges, ascending: NDArray[np.int64], slots: NDArray[np.int64], counts: NDArray[np.float64]) -> float:
    """Fill `counts`; `slots` [M] says where each of the candidates in ascending order stands. Returns `outgoing`."""
    outgoing = 0.0
    for edge in range(len(edges.neighbour)):
        side, place, hop = edges.side[edge], edges.position[edge], edges.hop[edge]
        if side == 0 and place == 0 and hop == 1:
            outgoing += edges.times[edge]
        at = lower_bound(ascending, edges.neighbour[edge])
        if at < len(ascending) and ascending[at] == edges.neighbour[edge]:
            counts[side, place, hop - 1, slots[at]] = edges.times[edge]
    return outgoing
