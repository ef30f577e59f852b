"""The training evidence behind one recommended item: through which item of the history, and how often it was seen.

It shows the strongest path (`models.paths`) of the item's strongest type (`models.categories`) at its hop.

Shapes: `K` items.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.categories import Categories, category_of
from models.compiled import compiled
from models.context import Context
from models.histories import History
from models.paths import DIRECT, find_legs, smallest_hops, strongest_routes, strongest_types
from models.transitions import DIRECTIONS, HOPS, Direction, Edges, Transitions


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


def explain(
    context: Context, transitions: Transitions, items: NDArray[np.int64]
) -> tuple[Categories, list[Explanation | None]]:
    """Categorize `items` [K] after one history, as [1, K], and explain each; None where an item is uncategorized."""
    longest = min(len(context.history), HOPS)
    hops, found = _evidence(context.edges, transitions.gather(items), items, longest)
    return Categories.of(hops[np.newaxis]), [_explanation(context.history, *row) for row in found.tolist()]


@compiled
def _evidence(
    first: Edges, second: Edges, items: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Of each item the smallest hop of each of TYPES [K, 4], and its strongest type, its hop and `Route` [K, 7]."""
    legs = find_legs(first, second, items.reshape(1, -1))
    hops = smallest_hops(legs, np.full(1, longest), len(items))
    types, smallest = strongest_types(hops)
    route = strongest_routes(legs, types, smallest)
    found = np.empty((len(items), 7), np.int64)
    for field, values in enumerate((route.support, route.place, route.middle, route.first, route.second)):
        found[:, 2 + field] = values
    found[:, 0], found[:, 1] = types, smallest
    return hops, found


def _explanation(
    history: History,
    kind: int,
    hop: int,
    support: int,
    place: int,
    middle: int,
    first: int,
    second: int,
) -> Explanation | None:
    if not hop:
        return None
    direct = second == DIRECT
    return Explanation(
        category=category_of(kind, hop),
        hop=hop,
        support=support,
        via=int(history[-1 - place]),
        through=None if direct else middle,
        legs=(DIRECTIONS[first],) if direct else (DIRECTIONS[first], DIRECTIONS[second]),
    )
