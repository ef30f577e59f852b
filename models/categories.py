"""Which kind of evidence the training transitions hold for an item after a history.

The rule is that of MemGen (arXiv 2603.19809), as its code computes it: for each type, and hop by hop, it asks whether
two neighbour sets that grow with the hop intersect. A set that holds everything within distance h contains x exactly
when x is at most h away, so the smallest hop that passes is the smallest hop of a path (`models.paths`) of that type.
Substitutability at hop 1 is memorization.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.histories import History
from models.paths import TYPES, find_legs, smallest_hops
from models.transitions import HOPS, Transitions

GROUPS = ("memorization", "generalization", "uncategorized")

_BLOCK = 32  # histories at a time: their paths fit the processor's cache


@dataclass(frozen=True)
class Categories:
    """The categories of targets. The leading shape is that of the targets: [n], or [n, K]."""

    memorization: NDArray[np.bool_]
    """[...]: the target followed the last item of the history somewhere in training."""
    hops: NDArray[np.int8]
    """[..., 4]: the smallest hop at which each of TYPES holds, 0 where it does not; all 0 under memorization."""

    @classmethod
    def of(cls, hops: NDArray[np.int8]) -> "Categories":
        """Categories from the smallest hop of each type, [..., 4]; under memorization the others say nothing."""
        memorization = hops[..., 0] == 1
        return cls(memorization, np.where(memorization[..., np.newaxis], np.int8(0), hops))

    def group(self) -> NDArray[np.str_]:
        """[...]: the one of GROUPS that each target belongs to."""
        return np.array(GROUPS)[self._group()]

    def labels(self) -> list[tuple[str, ...]]:
        """The labels of each target, in row-major order: the types with their hop (`symmetry_1`), then the group."""
        rows = zip(self._group().ravel().tolist(), self.hops.reshape(-1, len(TYPES)).tolist(), strict=True)
        return [_labels(group, tuple(hops)) for group, hops in rows]

    def _group(self) -> NDArray[np.int64]:
        """[...]: the place in GROUPS of each target's."""
        return np.where(self.memorization, 0, 2 - self.hops.any(axis=-1))

    def counts(self) -> dict[str, int]:
        """How many targets carry each label, absent ones included, and under `n` how many targets there are."""
        group, hops = self.group(), self.hops
        by_group = {name: int((group == name).sum()) for name in GROUPS}
        by_type = {
            f"{name}_{hop}": int((hops[..., column] == hop).sum())
            for column, name in enumerate(TYPES)
            # Substitutability at hop 1 is memorization.
            for hop in range(2 if column == 0 else 1, HOPS + 1)
        }
        return {**by_group, **by_type, "n": group.size}


def category_of(kind: int, hop: int) -> str:
    """The name of a type, by its place in TYPES, that holds at a hop: memorization, or one of TYPES."""
    return GROUPS[0] if kind == 0 and hop == 1 else TYPES[kind]


@cache
def _labels(group: int, hops: tuple[int, ...]) -> tuple[str, ...]:
    """The labels of a target by its place in GROUPS and the smallest hop of each type; a few hundred are possible."""
    types = (f"{name}_{hop}" for name, hop in zip(TYPES, hops, strict=True) if hop)
    return (*types, GROUPS[group])


def categorize(transitions: Transitions, histories: Sequence[History], targets: NDArray[np.integer]) -> Categories:
    """Categorize targets, each against its history.

    `histories` are n sequences of item indexes, the most recent last; they may be empty. `targets` is [n], one for each
    history, or [n, K], K candidates for each. An item that `transitions` does not know is evidence of nothing. A hop
    longer than the history is never reached.

    Raises:
        ValueError: `targets` has another number of rows than there are histories.
    """
    if len(targets) != len(histories):
        raise ValueError(f"targets need one row a history: received {len(targets)} rows, {len(histories)} histories")
    candidates = targets.astype(np.int64).reshape(len(histories), int(np.prod(targets.shape[1:])))
    window = context_window(histories)
    longest = np.array([min(len(history), HOPS) for history in histories], dtype=np.int64)
    hops = np.empty((*candidates.shape, len(TYPES)), dtype=np.int8)
    for start in range(0, len(histories), _BLOCK):
        block = slice(start, start + _BLOCK)
        first, second = (transitions.gather(items[block].ravel()) for items in (window, candidates))
        legs = find_legs(first, second, candidates[block])
        hops[block] = smallest_hops(legs, longest[block], candidates.shape[1]).reshape(hops[block].shape)
    return Categories.of(hops.reshape(*targets.shape, len(TYPES)))


def context_window(histories: Sequence[History]) -> NDArray[np.int64]:
    """The history items that `categorize` looks at, [n, HOPS]: column d - 1 is d before the target, 0 where none is."""
    window = np.zeros((len(histories), HOPS), dtype=np.int64)
    for row, history in zip(window, histories, strict=True):
        recent = history[-HOPS:]
        row[: len(recent)] = recent[::-1]
    return window
