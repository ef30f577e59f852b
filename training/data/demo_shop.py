"""What leads from one item of the demo catalogue to the next: the planted regularities (see `demo`)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.demo_catalogue import BRANDS, SUBCATEGORIES, Attributes, Ints
from training.data.demo_vocabulary import COLOURS, SIZE_STEPS

HUB_SHARE = 0.15  # of the items have habitual successors
FIRST_SUCCESSOR = 0.75  # share of a hub's habitual steps that go to the first of its two successors
HUB_APPEAL = 4.0  # how much more often a hub is explored than another item
NOTHING = -1  # instead of an item: no candidate


@dataclass(frozen=True)
class Groups:
    """Items by key."""

    members: Ints  # [N] items, sorted by key
    keys: Ints  # [N] their keys

    @classmethod
    def by(cls, keys: Ints) -> "Groups":
        """Group the items 0..N-1 by their keys, [N]."""
        members = np.argsort(keys, kind="stable")
        return cls(members, keys[members])

    def spans(self, keys: Ints) -> tuple[Ints, Ints]:
        """Where the group of each key starts in `members`, and where it ends."""
        return np.searchsorted(self.keys, keys, side="left"), np.searchsorted(self.keys, keys, side="right")

    def pick(self, keys: Ints, rng: np.random.Generator) -> Ints:
        """One uniform member of the group of each key; NOTHING where there is none."""
        start, end = self.spans(keys)
        position = start + (rng.random(len(keys)) * (end - start)).astype(np.int64)
        return np.where(start < end, self.members[np.minimum(position, len(self.members) - 1)], NOTHING)


@dataclass(frozen=True)
class Shop:
    """The catalogue and its regularities. Every method draws one item per row of its arguments, or NOTHING."""

    items: Attributes
    successors: Ints  # [N, 2] habitual next items of a hub; NOTHING for other items
    habit: NDArray[np.float64]  # [N] how strongly a hub leads to its successors, 0 for other items
    kits: Groups
    rivals: Groups
    sizes: Groups
    departments: Groups
    appeal: NDArray[np.float64]  # [N] cumulative weight of exploring departments.members

    @classmethod
    def build(cls, items: Attributes, rng: np.random.Generator) -> "Shop":
        """Plant the regularities among the items."""
        count = len(items.line)
        departments = Groups.by(items.department)
        hub = rng.random(count) < HUB_SHARE
        habit = np.where(hub, rng.beta(4.0, 1.5, size=count), 0.0)
        weight = (1.0 + rng.pareto(1.6, size=count)) * np.where(hub, HUB_APPEAL, 1.0)
        successors = np.stack([departments.pick(items.department, rng) for _ in range(2)], axis=1)
        return cls(
            items=items,
            successors=np.where(hub[:, None], successors, NOTHING),
            habit=habit,
            kits=Groups.by(_kit(items.subcategory, items.brand, items.colour)),
            rivals=Groups.by(_rival(items.subcategory, items.colour, items.size)),
            sizes=Groups.by(_size(items.line, items.colour, items.size)),
            departments=departments,
            appeal=np.cumsum(weight[departments.members]),
        )

    def first(self, subcategory: Ints, colour: Ints, size: Ints, rng: np.random.Generator) -> Ints:
        """Any brand, given subcategory, own colour and own size."""
        return self.rivals.pick(_rival(subcategory, colour, size), rng)

    def explore(self, department: Ints, rng: np.random.Generator) -> Ints:
        """A popular item of the department."""
        start, end = self.departments.spans(department)
        below = np.concatenate([[0.0], self.appeal])
        target = below[start] + rng.random(len(department)) * (below[end] - below[start])
        position = np.searchsorted(self.appeal, target, side="right")
        chosen: Ints = self.departments.members[np.minimum(position, end - 1)]
        return chosen

    def follow_habit(self, last: Ints, rng: np.random.Generator) -> Ints:
        """A fixed successor of the last item."""
        return self.successors[last, (rng.random(len(last)) >= FIRST_SUCCESSOR).astype(np.int64)]

    def complete_kit(self, last: Ints, colour: Ints, rng: np.random.Generator) -> Ints:
        """Same brand, matching subcategory, own colour."""
        return self.kits.pick(_kit(self._match(last, rng), self.items.brand[last], colour), rng)

    def try_rival(self, last: Ints, colour: Ints, size: Ints, rng: np.random.Generator) -> Ints:
        """Any brand, matching subcategory, own colour and own size."""
        return self.first(self._match(last, rng), colour, size, rng)

    def size_up(self, last: Ints, colour: Ints, rng: np.random.Generator) -> Ints:
        """Same product line, next size up, own colour."""
        size = self.items.size[last] + 1
        found = self.sizes.pick(_size(self.items.line[last], colour, np.minimum(size, SIZE_STEPS - 1)), rng)
        return np.where(size < SIZE_STEPS, found, NOTHING)

    def _match(self, last: Ints, rng: np.random.Generator) -> Ints:
        """One of the two subcategories that go with the last item's: those after it, round the department."""
        department, place = np.divmod(self.items.subcategory[last], SUBCATEGORIES)
        return department * SUBCATEGORIES + (place + rng.integers(1, 3, size=len(last))) % SUBCATEGORIES


def _kit(subcategory: Ints, brand: Ints, colour: Ints) -> Ints:
    return (subcategory * BRANDS + brand) * len(COLOURS) + colour


def _rival(subcategory: Ints, colour: Ints, size: Ints) -> Ints:
    return (subcategory * len(COLOURS) + colour) * SIZE_STEPS + size


def _size(line: Ints, colour: Ints, size: Ints) -> Ints:
    return (line * len(COLOURS) + colour) * SIZE_STEPS + size
