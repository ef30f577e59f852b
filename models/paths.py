"""How training transitions connect the last items of a history with candidates: paths of two legs that meet in an x.

    history item  -- first leg -->  x  <-- second leg --  candidate

A leg is a training transition within HOPS steps: forward when x came after the item that the leg starts from, backward
when x came before it. A second leg may also have no length: x is the candidate itself, and the path is direct. A path
holds at hop h, in the sense of MemGen (arXiv 2603.19809), when its history item is at most h before the target and no
leg is longer than h; its smallest hop is the largest of the three. Its type follows from the sides of its legs.

Shapes: `b` histories, `K` candidates for each, `E` first legs, `M` second legs.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled
from models.transitions import DIRECTIONS, HOPS, Edges

TYPES = ("substitutability", "symmetry", "transitivity", "2nd-symmetry")

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
_SPREAD = 0x9E3779B1  # odd, its bits without order: Knuth's multiplicative hash


Number = int | np.integer


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


_ROUTE_FIELDS = len(Route._fields)


@compiled
def find_legs(first: Edges, second: Edges, candidates: NDArray[np.int64]) -> Legs:
    """Match the transitions of the last items of histories with those of their `candidates` [b, K].

    `first` are those of a window [b, HOPS] of items, whose column d - 1 is d before the target, `second` those of the
    candidates, both with the place in the flattened table as `position`.
    """
    targets, length = candidates.ravel(), max(1, candidates.shape[1])
    width = np.int64(1)
    for x in first.neighbour:
        width = max(width, x + 1)
    meeting = first.position // HOPS * width + first.neighbour
    if (meeting[1:] < meeting[:-1]).any():
        order = np.argsort(meeting, kind="mergesort")
        meeting = meeting[order]
        first = Edges(
            first.position[order], first.side[order], first.hop[order], first.neighbour[order], first.times[order]
        )
    slots = _hash(meeting)
    size = len(second.hop) + len(targets)
    begin = np.empty(size, np.int64)
    met = Edges(
        np.empty(size, np.int64),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
        np.empty(size, np.int32),
    )
    found = 0
    position, history = np.int64(-1), np.int64(0)  # a division for each leg would take longer than all else
    for leg in range(len(second.hop)):
        if second.position[leg] != position:
            position = second.position[leg]
            history = position // length * width
        begin[found] = _place(meeting, slots, history, second.neighbour[leg], width)
        if begin[found] >= 0:
            met.position[found], met.side[found], met.hop[found] = position, second.side[leg], second.hop[leg]
            met.neighbour[found], met.times[found] = second.neighbour[leg], second.times[leg]
            found += 1
    for target in range(len(targets)):
        begin[found] = _place(meeting, slots, target // length * width, targets[target], width)
        if begin[found] >= 0:
            met.position[found], met.side[found], met.hop[found] = target, DIRECT, 0
            met.neighbour[found], met.times[found] = targets[target], _UNLIMITED
            found += 1
    meeting_edges = Edges(
        met.position[:found], met.side[:found], met.hop[:found], met.neighbour[:found], met.times[:found]
    )
    return Legs(first, meeting, meeting_edges, begin[:found])


@compiled
def _hash(ascending: NDArray[np.int64]) -> NDArray[np.int32]:
    """A hash table with open addressing: where each number of `ascending` begins, -1 in free slots."""
    size = 16
    while size < 2 * len(ascending):
        size *= 2
    slots = np.full(size, -1, np.int32)
    for at in range(len(ascending)):
        if at == 0 or ascending[at] != ascending[at - 1]:
            slot = _slot(ascending[at], size)
            while slots[slot] >= 0:
                slot = (slot + 1) & (size - 1)
            slots[slot] = at
    return slots


@compiled
def _slot(number: Number, size: int) -> int:
    """The slot of `size`, a power of two, that a number is looked for in first."""
    return (number * _SPREAD >> 16) & (size - 1)


@compiled
def _place(ascending: NDArray[np.int64], slots: NDArray[np.int32], history: Number, x: Number, width: Number) -> Any:
    """Where the first legs that meet in x begin, -1 where there are none."""
    if x >= width:
        return -1
    slot = _slot(history + x, len(slots))
    while slots[slot] >= 0 and ascending[slots[slot]] != history + x:
        slot = (slot + 1) & (len(slots) - 1)
    return slots[slot]


@compiled
def smallest_hops(legs: Legs, longest: NDArray[np.int64], length: int) -> NDArray[np.int8]:
    """The smallest hop of each of TYPES over the paths to candidates: [b * K, 4], 0 where there is none.

    `longest` [b] is that of each history, which has `length` K candidates. A longer one is never reached.
    """
    first, second = legs.first, legs.second
    hops = np.zeros((len(longest) * length, len(TYPES)), np.int8)
    candidate, limit = np.int64(-1), np.int64(0)
    for leg in range(len(legs.begin)):
        if second.position[leg] != candidate:
            candidate = second.position[leg]
            limit = longest[candidate // length]
        at = legs.begin[leg]
        meeting = legs.first_meeting[at]
        while at < len(legs.first_meeting) and legs.first_meeting[at] == meeting:
            hop = max(first.hop[at], first.position[at] % HOPS + 1, second.hop[leg])
            kind = _TYPE_OF[first.side[at], second.side[leg]]
            if hop <= limit and (hops[candidate, kind] == 0 or hop < hops[candidate, kind]):
                hops[candidate, kind] = hop
            at += 1
    return hops


@compiled
def strongest_types(hops: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Of smallest hops [n, 4] by type, the type with the smallest, the first of equals, and that hop: [n] each.

    Both are 0 where no type holds.
    """
    types, smallest = np.zeros(len(hops), np.int64), np.zeros(len(hops), np.int8)
    for row in range(len(hops)):
        for kind in range(len(TYPES)):
            if hops[row, kind] and (smallest[row] == 0 or hops[row, kind] < smallest[row]):
                types[row], smallest[row] = kind, hops[row, kind]
    return types, smallest


@compiled
def strongest_routes(legs: Legs, types: NDArray[np.int64], hops: NDArray[np.int8]) -> Route:
    """The strongest path of each candidate of one history, of its type in `types` [K] and within its hop in `hops` [K];
    none where the hop is 0."""
    second = legs.second
    found = np.zeros((_ROUTE_FIELDS, len(hops)), np.int64)
    order = _useful(legs, types, hops)
    path, counts = np.empty(_ROUTE_FIELDS, np.int64), np.empty((DIRECT, HOPS), np.int64)
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
            times += second.times[order[end]]
            end += 1
        _count_first_legs(legs, legs.begin[leg], hops[candidate], counts)
        for side in range(DIRECT):
            if _TYPE_OF[side, side_of_second] == types[candidate]:
                for place in range(hops[candidate]):
                    path[0] = min(counts[side, place], times)
                    if path[0] and path[0] >= found[0, candidate]:
                        path[1], path[2], path[3], path[4] = place, second.neighbour[leg], side, side_of_second
                        _keep_stronger(found[:, candidate], path)
    return Route(found[0], found[1], found[2], found[3], found[4])


@compiled
def _useful(legs: Legs, types: NDArray[np.int64], hops: NDArray[np.int8]) -> NDArray[np.int64]:
    """The second legs within the hop of their candidate that can be part of a path of its type; by candidate, then by
    meeting, then by side."""
    second = legs.second
    useful, keys = np.empty(len(legs.begin), np.int64), np.empty(len(legs.begin), np.int64)
    count = 0
    for leg in range(len(legs.begin)):
        candidate, side = second.position[leg], second.side[leg]
        kind = types[candidate]
        if second.hop[leg] <= hops[candidate] and (_TYPE_OF[0, side] == kind or _TYPE_OF[1, side] == kind):
            useful[count] = leg
            keys[count] = (candidate * len(legs.first_meeting) + legs.begin[leg]) * (DIRECT + 1) + side
            count += 1
    return useful[np.argsort(keys[:count])]


@compiled
def _count_first_legs(legs: Legs, begin: int, hop: int, counts: NDArray[np.int64]) -> None:
    """How often training has the first legs of a meeting within `hop`: by side and place of the history item."""
    counts[:] = 0
    at = begin
    while at < len(legs.first_meeting) and legs.first_meeting[at] == legs.first_meeting[begin]:
        if legs.first.hop[at] <= hop:
            counts[legs.first.side[at], legs.first.position[at] % HOPS] += legs.first.times[at]
        at += 1


@compiled
def _keep_stronger(best: NDArray[np.int64], path: NDArray[np.int64]) -> None:
    """Replace the fields of `Route` in `best` by those of a path that is stronger, by the order that it states."""
    for field in range(len(path)):
        if path[field] != best[field]:
            if (path[field] > best[field]) == (field == 0):
                best[:] = path
            return
