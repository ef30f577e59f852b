"""How training transitions connect the last items of a history with candidates: paths of two legs that meet in an x.

    history item  -- first leg -->  x  <-- second leg --  candidate

A leg is a training transition within HOPS steps: forward when x came after the item that the leg starts from, backward
when x came before it. A second leg may also have no length: x is the candidate itself, and the path is direct. A path
holds at hop h, in the sense of MemGen (arXiv 2603.19809), when its history item is at most h before the target and no
leg is longer than h; its smallest hop is the largest of the three.

Shapes: `b` histories, `K` candidates for each, `E` first legs, `M` second legs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.transitions import DIRECTIONS, HOPS, Edges, Transitions

NO_HOP = HOPS + 1
"""The hop of a path that does not exist."""

DIRECT = len(DIRECTIONS)
"""The side of a second leg without length; the sides of all other legs are places in DIRECTIONS."""


class Paths(NamedTuple):
    """The paths between b histories and b * K candidates."""

    first: Edges
    """The first legs [E]; `position` is the place in the window: history * HOPS + (steps before the target) - 1."""
    second: Edges
    """The second legs that meet a first leg [M]; `position` is the place of the candidate: history * K + k."""
    hops: NDArray[np.int8]
    """[2, M]: the smallest hop over each second leg, by the side of the first leg; NO_HOP where none meets it."""


def find_paths(transitions: Transitions, window: NDArray[np.int64], candidates: NDArray[np.int64]) -> Paths:
    """Find all paths from the last items of histories, `window` [b, HOPS], to their `candidates` [b, K].

    Column d - 1 of `window` is the item d before the target, 0 where there is none. Holds 2 * b * N bytes for a
    catalogue of N items, mostly untouched.
    """
    first = transitions.gather(window.ravel())
    second = _with_direct(transitions.gather(candidates.ravel()), candidates.ravel())
    # One cell for each (history, x).
    width = 1 + max(int(legs.neighbour.max(initial=0)) for legs in (first, second))
    history, place = np.divmod(first.position, HOPS)
    # How near each x is to its history over first legs of either side: NO_HOP less the hop, so that 0 is out of reach.
    nearness = np.zeros((len(DIRECTIONS), len(window) * width), dtype=np.int8)
    np.maximum.at(
        nearness.reshape(-1),
        (first.side * len(window) + history) * width + first.neighbour,
        (NO_HOP - np.maximum(first.hop, place + 1)).astype(np.int8),
    )
    reached = nearness.take(second.position // candidates.shape[1] * width + second.neighbour, axis=1)
    meets = np.flatnonzero(reached[0] | reached[1])
    second = Edges(*(values[meets] for values in second))
    hops = np.maximum(NO_HOP - reached.take(meets, axis=1), second.hop.astype(np.int8))
    return Paths(first, second, hops)


def _with_direct(legs: Edges, candidates: NDArray[np.int64]) -> Edges:
    """Add the leg without length of each candidate, so frequent that it never limits a path."""
    number = len(candidates)
    direct = Edges(
        position=np.arange(number),
        side=np.full(number, DIRECT),
        hop=np.zeros(number, dtype=np.int32),
        neighbour=candidates.astype(np.int32),
        times=np.full(number, np.iinfo(np.int32).max, dtype=np.int32),
    )
    return Edges(*(np.concatenate([found, added]) for found, added in zip(legs, direct, strict=True)))
