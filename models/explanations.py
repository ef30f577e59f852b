"""The training evidence behind one recommended item: through which item of the history, and how often it was seen.

It shows the strongest path (`models.paths`) of the item's strongest type (`models.categories`) at its hop h. A leg
counts as often as training has it within h steps, and the support of a path is the count of its rarer leg; a direct
path has but one leg. Of equal support, the path from the nearest history item wins, then the one through the smaller
index, then the one whose first leg, then whose second, is forward.

Shapes: `K` items, `M` second legs, `R` routes (paths without their history item), `P` items that can be explained.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.categories import TYPE_OF, TYPES, Categories, Strongest, context_window, smallest_hops
from models.histories import History
from models.paths import DIRECT, Paths, find_paths
from models.transitions import DIRECTIONS, HOPS, Direction, Edges, Transitions

Indexes = NDArray[np.int64]


class Explanation(NamedTuple):
    """Why training leads from a history to an item. Items are indexes."""

    category: str
    """memorization, or one of TYPES."""
    hop: int
    """The smallest hop at which it holds, 1..HOPS."""
    support: int
    """How often training has the rarer leg of the path within `hop` steps."""
    via: int
    """The history item that the path starts from."""
    through: int | None
    """The item in the middle of a path of two legs, else None."""
    legs: tuple[Direction, ...]
    """Its one or two legs. The first leaves `via`: forward when what comes next on the path came after it in training,
    backward when before. The second leaves the explained item for `through`, by the same rule."""

    @property
    def label(self) -> str:
        """The category as `Categories.labels` writes it."""
        return self.category if self.category == "memorization" else f"{self.category}_{self.hop}"


def explain(transitions: Transitions, history: History, items: Indexes) -> tuple[Categories, list[Explanation | None]]:
    """Categorize `items` [K] after one history, as [1, K], and explain each; None where an item is uncategorized."""
    window, candidates = context_window([history]), items[np.newaxis]
    paths = find_paths(transitions, window, candidates)
    found = Categories.after([history], smallest_hops(paths, candidates.shape))
    best = Strongest(*(values[0] for values in found.strongest()))
    routes = _routes(paths, best)
    chosen, place, support = _choose(_support(paths.first, routes, best.hop), routes.candidate)
    explanations: list[Explanation | None] = [None] * len(items)
    columns = (*(values[chosen] for values in routes[:4]), window[0, place], support)
    for candidate, middle, first, second, via, count in zip(*(column.tolist() for column in columns), strict=True):
        hop, direct = int(best.hop[candidate]), second == DIRECT
        explanations[candidate] = Explanation(
            category="memorization" if found.memorization[0, candidate] else TYPES[best.type[candidate]],
            hop=hop,
            support=count,
            via=via,
            through=None if direct else middle,
            legs=(DIRECTIONS[first],) if direct else (DIRECTIONS[first], DIRECTIONS[second]),
        )
    return found, explanations


class _Routes(NamedTuple):
    """Routes of the strongest type and its hop, in the order of their fields [R]."""

    candidate: Indexes
    middle: Indexes
    first: Indexes  # side of the first leg
    second: Indexes  # side of the second leg
    times: Indexes  # how often training has the second leg within the hop


def _routes(paths: Paths, best: Strongest) -> _Routes:
    second = paths.second
    types = TYPE_OF.take(second.side, axis=1)
    fits = (types == best.type[second.position]) & (paths.hops == best.hop[second.position])
    first_side, leg = np.nonzero(fits)
    shape = (len(best.hop), 1 + int(second.neighbour.max(initial=0)), len(DIRECTIONS), DIRECT + 1)
    codes = np.ravel_multi_index((second.position[leg], second.neighbour[leg], first_side, second.side[leg]), shape)
    # A second leg that training has at several distances is there once for each.
    routes, route_of = np.unique(codes, return_inverse=True)
    times = np.bincount(route_of, second.times[leg], minlength=len(routes))
    candidate, middle, first, side = np.unravel_index(routes, shape)
    return _Routes(candidate, middle, first, side, times.astype(np.int64))


def _support(first: Edges, routes: _Routes, hops: NDArray[np.int8]) -> Indexes:
    """[R, HOPS]: the support of each route from each place of the window; 0 where no first leg fits the hop."""
    points, point_of = np.unique(routes.middle, return_inverse=True)
    at = np.searchsorted(points, first.neighbour)
    leg = np.flatnonzero(np.append(points, -1)[at] == first.neighbour)
    counts = np.zeros((HOPS, len(DIRECTIONS), HOPS, len(points)), dtype=np.int64)  # distance, side, place, point
    counts[first.hop[leg] - 1, first.side[leg], first.position[leg], at[leg]] = first.times[leg]
    hop = hops[routes.candidate]
    within: Indexes = counts.cumsum(axis=0)[hop - 1, routes.first, :, point_of]
    within[np.arange(HOPS) >= hop[:, np.newaxis]] = 0
    return np.minimum(within, routes.times[:, np.newaxis])


def _choose(support: Indexes, candidate: Indexes) -> tuple[Indexes, Indexes, Indexes]:
    """The strongest path of each item in `candidate` [R], which ascends: its route, place and support, [P] each."""
    first = np.append(True, candidate[1:] != candidate[:-1])[: len(candidate)]
    starts, owner = np.flatnonzero(first), np.cumsum(first) - 1
    by_place = np.maximum.reduceat(support, starts, axis=0)
    place, most = by_place.argmax(axis=1), by_place.max(axis=1)
    equal = np.flatnonzero(support[np.arange(len(support)), place[owner]] == most[owner])
    return equal[np.searchsorted(equal, starts)], place, most
