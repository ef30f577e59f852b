"""How training transitions connect the last items of a history with candidates: paths of two legs that meet in an x.

    history item  -- first leg -->  x  <-- second leg --  candidate

A leg is a training transition within HOPS steps: forward when x came after the item that the leg starts from, backward
when x came before it. A second leg may also have no length: x is the candidate itself, and the path is direct. A path
holds at hop h, in the sense of MemGen (arXiv 2603.19809), when its history item is at most h before the target and no
leg is longer than h; its smallest hop is the largest of the three. Its type follows from the sides of its legs.

Shapes: `b` histories, `K` candidates for each, `E` first legs, `M` second legs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, lower_bound
from models.transitions import DIRECTIONS, HOPS, Edges

TYPES = ("substitutability", "symmetry", "transitivity", "2nd-symmetry")

NO_HOP = HOPS + 1
"""The hop of a path that does not exist."""

DIRECT = len(DIRECTIONS)
"""The side of a second leg without length; the sides of all other legs are places in DIRECTIONS."""

# The place in TYPES of a path, by the side of its first leg and that of its second leg: forward, backward, direct. The
# three of 2nd-symmetry are common effect, reverse path and common cause.
_TYPE_OF = np.array(
    [
        [TYPES.index("2nd-symmetry"), TYPES.index("transitivity"), TYPES.index("substitutability")],
        [TYPES.index("2nd-symmetry"), TYPES.index("2nd-symmetry"), TYPES.index("symmetry")],
    ]
)

_UNLIMITED = int(np.iinfo(np.int32).max)
_FILTER = 4096  # a few times the first legs of a history


class Legs(NamedTuple):
    """The legs that meet. A `meeting` is a number for a history and an x: legs of the same one form a path."""

    first: Edges
    """First legs [E] in ascending order of meeting; `position` is the place in the window: history * HOPS + (steps
    before the target) - 1."""
    first_meeting: NDArray[np.int64]
    second: Edges
    """Second legs that meet a first one [M]; `position` is the place of the candidate: history * K + k. A leg without
    length is so frequent that it never limits a path."""
    begin: NDArray[np.int64]
    """[M]: the first one of the first legs that each meets."""


class Route(NamedTuple):
    """The strongest path of each of `K` candidates of one history, int64 [K]; meaningless where the support is 0.

    A leg counts as often as training has it within the hop, and the support of a path is the count of its rarer leg. Of
    equal support, the path from the nearest history item wins, then the one through the smaller index, then the one
    whose first leg, then whose second, is forward.
    """

    support: NDArray[np.int64]
    place: NDArray[np.int64]  # of the history item, steps before the target - 1
    middle: NDArray[np.int64]
    first: NDArray[np.int64]  # side of the first leg
    second: NDArray[np.int64]  # side of the second leg


def find_legs(first: Edges, second: Edges, candidates: NDArray[np.int64]) -> Legs:
    """Match the transitions of the last items of histories with those of their `candidates` [b, K].

    `first` are those of a window [b, HOPS] of items, whose column d - 1 is d before the target, `second` those of the
    candidates, both with the place in the flattened table as `position`.
    """
    second = _with_direct(second, candidates)
    width = 1 + max(int(legs.neighbour.max(initial=0)) for legs in (first, second))
    meeting = first.position // HOPS * width + first.neighbour
    order = np.argsort(meeting, kind="stable")
    meeting = meeting[order]
    begin = np.empty(len(second.position), dtype=np.int64)
    _meet(meeting, second.position // max(1, candidates.shape[1]) * width + second.neighbour, begin)
    meets = np.flatnonzero(begin >= 0)
    return Legs(first.take(order), meeting, second.take(meets), begin[meets])


def smallest_hops(legs: Legs, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """The smallest hop of each of TYPES over the paths to candidates of the given shape: [*shape, 4], else NO_HOP."""
    hops = np.full((*shape, len(TYPES)), NO_HOP, dtype=np.int8)
    _smallest_hops(legs, _TYPE_OF, hops.reshape(-1, len(TYPES)))
    return hops


def strongest_routes(legs: Legs, types: NDArray[np.int64], hops: NDArray[np.int8]) -> Route:
    """The strongest path of each candidate of one history, of its type in `types` [K] and within its hop in `hops` [K];
    none where the hop is 0."""
    found = np.zeros((len(Route._fields), len(hops)), dtype=np.int64)
    _strongest_routes(legs, _TYPE_OF, types, hops, found)
    return Route(*found)


def _with_direct(legs: Edges, candidates: NDArray[np.int64]) -> Edges:
    """Add the leg without length of each candidate."""
    number = candidates.size
    direct = Edges(
        position=np.arange(number),
        side=np.full(number, DIRECT, dtype=np.int32),
        hop=np.zeros(number, dtype=np.int32),
        neighbour=candidates.ravel().astype(np.int32),
        times=np.full(number, _UNLIMITED, dtype=np.int32),
    )
    return Edges(*(np.concatenate([found, added]) for found, added in zip(legs, direct, strict=True)))


@compiled
def _meet(ascending: NDArray[np.int64], wanted: NDArray[np.int64], begin: NDArray[np.int64]) -> None:
    """Where in `ascending` [E] each number `wanted` [M] begins, -1 where it is missing. Most are."""
    seen = np.zeros(_FILTER, np.bool_)
    for number in ascending:
        seen[number % _FILTER] = True
    for leg in range(len(wanted)):
        begin[leg] = -1
        if seen[wanted[leg] % _FILTER]:
            at = lower_bound(ascending, wanted[leg])
            if at < len(ascending) and ascending[at] == wanted[leg]:
                begin[leg] = at


@compiled
def _smallest_hops(legs: Legs, type_of: NDArray[np.int64], hops: NDArray[np.int8]) -> None:
    """Lower `hops` [candidates, 4] to what each path reaches."""
    first, second = legs.first, legs.second
    for leg in range(len(legs.begin)):
        at = legs.begin[leg]
        meeting = legs.first_meeting[at]
        while at < len(legs.first_meeting) and legs.first_meeting[at] == meeting:
            hop = max(first.hop[at], first.position[at] % HOPS + 1, second.hop[leg])
            kind = type_of[first.side[at], second.side[leg]]
            hops[second.position[leg], kind] = min(hops[second.position[leg], kind], hop)
            at += 1


@compiled
def _strongest_routes(
    legs: Legs, type_of: NDArray[np.int64], types: NDArray[np.int64], hops: NDArray[np.int8], found: NDArray[np.int64]
) -> None:
    """Fill `found`, the fields of `Route`."""
    second = legs.second
    order = np.argsort((second.position * len(legs.first_meeting) + legs.begin) * (DIRECT + 1) + second.side)
    end = 0
    while end < len(order):
        # A second leg that training has at several distances is there once for each, side by side.
        leg, times = order[end], np.int64(0)
        candidate, side_of_second = second.position[leg], second.side[leg]
        while (
            end < len(order)
            and second.position[order[end]] == candidate
            and legs.begin[order[end]] == legs.begin[leg]
            and second.side[order[end]] == side_of_second
        ):
            if second.hop[order[end]] <= hops[candidate]:
                times += second.times[order[end]]
            end += 1
        counts = _first_legs(legs, legs.begin[leg], hops[candidate])
        for side in range(DIRECT):
            if type_of[side, side_of_second] == types[candidate]:
                for place in range(hops[candidate]):
                    support = min(counts[side, place], times)
                    if support and support >= found[0, candidate]:
                        path = np.array([support, place, second.neighbour[leg], side, side_of_second], np.int64)
                        _keep_stronger(found[:, candidate], path)


@compiled
def _first_legs(legs: Legs, begin: int, hop: int) -> NDArray[np.int64]:
    """How often training has the first legs of a meeting within `hop`: by side and place of the history item."""
    counts = np.zeros((DIRECT, HOPS), np.int64)
    at = begin
    while at < len(legs.first_meeting) and legs.first_meeting[at] == legs.first_meeting[begin]:
        if legs.first.hop[at] <= hop:
            counts[legs.first.side[at], legs.first.position[at] % HOPS] += legs.first.times[at]
        at += 1
    return counts


@compiled
def _keep_stronger(best: NDArray[np.int64], path: NDArray[np.int64]) -> None:
    """Replace the fields of `Route` in `best` by those of a path that is stronger, by the order that it states."""
    for field in range(len(path)):
        if path[field] != best[field]:
            if (path[field] > best[field]) == (field == 0):
                best[:] = path
            return
