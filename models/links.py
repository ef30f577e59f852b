"""How often training links the candidates of one request with the last items of its history.

A candidate that both models rank low, but that often followed the last items in training, is a memorized answer all the
same: this is the evidence that `models.features` turns into numbers.

Shapes: `M` candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.histories import History
from models.transitions import DIRECTIONS, HOPS, Direction, Row

RowOf = Callable[[Direction, int], Row]
"""The transitions of one item in one direction: a bundle's index, or what a cache delivered."""


class Links(NamedTuple):
    """The transitions between the last items of a history and candidates.

    Attributes:
        counts: float64 [2, HOPS, HOPS, M]: direction (forward: the candidate came after the history's item), place of
            the history's item (0 is the last one), exact distance less one, candidate.
        outgoing: training transitions of distance 1 that leave the last item, to any item.
    """

    counts: NDArray[np.float64]
    outgoing: float


def links(rows: RowOf, history: History, candidates: NDArray[np.int64]) -> Links:
    """Count the links of `candidates` [M]: distinct item indexes, but for the empty slots (0), which have none."""
    recent = [int(item) for item in history[: -HOPS - 1 : -1]]
    counts = np.zeros((len(DIRECTIONS) * HOPS * HOPS, len(candidates)))
    found = [rows(direction, item) for direction in DIRECTIONS for item in recent]
    cells = [
        (side * HOPS + place) * HOPS + hop
        for side in range(len(DIRECTIONS))
        for place in range(len(recent))
        for hop in range(HOPS)
    ]
    neighbours = [part for row in found for part in row.neighbours]
    order = np.argsort(candidates)
    ordered = candidates[order]
    if neighbours and len(candidates):
        cell = np.repeat(cells, [len(part) for part in neighbours])
        neighbour = np.concatenate(neighbours)
        at = np.minimum(np.searchsorted(ordered, neighbour), len(candidates) - 1)
        hit = np.flatnonzero(ordered[at] == neighbour)
        # A cell meets a neighbour once, so plain assignment loses nothing.
        counts[cell[hit], order[at[hit]]] = np.concatenate([part for row in found for part in row.counts])[hit]
    outgoing = float(found[0].counts[0].sum()) if found else 0.0
    return Links(counts.reshape(len(DIRECTIONS), HOPS, HOPS, len(candidates)), outgoing)
