"""The training evidence behind one recommended item: through which item of the history, and how often it was seen.

It shows the strongest path (`models.paths`) of the item's strongest type (`models.categories`) at its hop.

Shapes: `K` items.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.categories import Categories
from models.context import Context
from models.histories import History
from models.paths import DIRECT, TYPES, find_legs, smallest_hops, strongest_routes
from models.transitions import DIRECTIONS, HOPS, Direction, Transitions


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
    legs = find_legs(context.edges, transitions.gather(items), items[np.newaxis])
    longest = np.array([min(len(context.history), HOPS)])
    found = Categories.of(smallest_hops(legs, longest, len(items))[np.newaxis])
    types, hops = (values[0] for values in found.strongest())
    routes = strongest_routes(legs, types, hops)
    columns = (found.memorization[0], types, hops, *routes)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return found, [_explanation(context.history, *row) for row in rows]


def _explanation(
    history: History,
    memorized: bool,
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
        category="memorization" if memorized else TYPES[kind],
        hop=hop,
        support=support,
        via=int(history[-1 - place]),
        through=None if direct else middle,
        legs=(DIRECTIONS[first],) if direct else (DIRECTIONS[first], DIRECTIONS[second]),
    )
