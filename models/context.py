"""What a request's history brings to the ensemble and to the explanations."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.histories import History
from models.transitions import FORWARD, HOPS, Edges, Transitions


class Context(NamedTuple):
    """A history, and the transitions of its last items."""

    history: History
    """Item indexes, the most recent last; not empty."""
    recent: NDArray[np.int64]
    """The last HOPS items, the last one first."""
    edges: Edges
    """Transitions of `recent`; `position` 0 is the last one, in ascending order of neighbour."""

    @classmethod
    def of(cls, history: History, transitions: Transitions) -> Self:
        """Gather what belongs to a history."""
        recent = np.array(history[: -HOPS - 1 : -1], dtype=np.int64)
        edges = transitions.gather(recent)
        return cls(history, recent, edges.take(np.argsort(edges.neighbour, kind="stable")))

    def successors(self) -> NDArray[np.int32]:
        """The items that were seen right after the last one."""
        edges = self.edges
        after: NDArray[np.int32] = edges.neighbour[(edges.position == 0) & (edges.side == FORWARD) & (edges.hop == 1)]
        return after
