"""Which kind of evidence the training transitions hold for an item after a history.

The rule is that of MemGen (arXiv 2603.19809), as its code computes it: for each type, and hop by hop, it asks whether
two neighbour sets that grow with the hop intersect. A set that holds everything within distance h contains x exactly
when x is at most h away, so the smallest hop that passes is a min-max over paths. With the context item d positions
before the target,

    reach(x)  = min over d of max(d, distance of x from context item d)     the context's leg, inside window and hop
    path      = min over x of max(reach(x), distance of x from the target)  both legs inside one hop

Every type is one of the two: substitutability and symmetry are the reach of the target itself, over forward and
backward distances, and substitutability at hop 1 is memorization.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.histories import History
from models.transitions import HOPS, Edges, Gatherable, Transitions

TYPES = ("substitutability", "symmetry", "transitivity", "2nd-symmetry")
GROUPS = ("memorization", "generalization", "uncategorized")

_NEVER = 7  # a hop no path reaches; fills the low bits of a packed leg
_BLOCK = 256  # histories at a time: their legs fit the processor's cache


@dataclass(frozen=True)
class Categories:
    """The categories of targets. The leading shape is that of the targets: [n], or [n, K]."""

    memorization: NDArray[np.bool_]
    """[...]: the target followed the last item of the history somewhere in training."""
    hops: NDArray[np.int8]
    """[..., 4]: the smallest hop at which each of TYPES holds, 0 where it does not; all 0 under memorization."""

    def group(self) -> NDArray[np.str_]:
        """[...]: the one of GROUPS that each target belongs to."""
        return np.select([self.memorization, self.hops.any(axis=-1)], GROUPS[:2], default=GROUPS[2])

    def labels(self) -> list[tuple[str, ...]]:
        """The labels of each target, in row-major order: the types with their hop (`symmetry_1`), then the group."""
        types = (
            tuple(f"{name}_{hop}" for name, hop in zip(TYPES, hops, strict=True) if hop)
            for hops in self.hops.reshape(-1, len(TYPES)).tolist()
        )
        return [(*found, group) for found, group in zip(types, self.group().ravel().tolist(), strict=True)]

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
    hops = np.empty((*candidates.shape, len(TYPES)), dtype=np.int8)
    for start in range(0, len(histories), _BLOCK):
        block = slice(start, start + _BLOCK)
        hops[block] = _smallest_hops(transitions, window[block], candidates[block])
    reachable = np.array([min(len(history), HOPS) for history in histories], dtype=np.int8)
    hops[hops > reachable[:, None, None]] = 0
    memorization = hops[..., TYPES.index("substitutability")] == 1
    hops[memorization] = 0
    return Categories(memorization.reshape(targets.shape), hops.reshape(*targets.shape, len(TYPES)))


def context_window(histories: Sequence[History]) -> NDArray[np.int64]:
    """The history items that `categorize` looks at, [n, HOPS]: column d - 1 is d before the target, 0 where none is."""
    window = np.zeros((len(histories), HOPS), dtype=np.int64)
    for row, history in zip(window, histories, strict=True):
        recent = history[-HOPS:]
        row[: len(recent)] = recent[::-1]
    return window


def _smallest_hops(
    transitions: Transitions, window: NDArray[np.int64], candidates: NDArray[np.int64]
) -> NDArray[np.int64]:
    """[b, K, 4]: the smallest hop of each type, above HOPS where there is none."""
    after_context, before_context = (_legs(rows, window) for rows in (transitions.forward, transitions.backward))
    after_target, before_target = (
        rows.gather(candidates.ravel()) for rows in (transitions.forward, transitions.backward)
    )
    targets = _keys(np.repeat(np.arange(len(candidates)), candidates.shape[1]), candidates.ravel())

    def path(legs: NDArray[np.int64], edges: Edges) -> NDArray[np.int64]:
        keys = _keys(edges.position // candidates.shape[1], edges.neighbour)
        shortest = np.full(candidates.size, _NEVER)
        np.minimum.at(shortest, edges.position, np.maximum(_reach(legs, keys), edges.hop))
        return shortest

    common_effect = path(after_context, after_target)
    reverse_path = path(before_context, after_target)
    common_cause = path(before_context, before_target)
    found = {
        "substitutability": _reach(after_context, targets),
        "symmetry": _reach(before_context, targets),
        "transitivity": path(after_context, before_target),
        "2nd-symmetry": np.minimum(np.minimum(common_effect, reverse_path), common_cause),
    }
    return np.stack([found[name] for name in TYPES], axis=-1).reshape(*candidates.shape, len(TYPES))


def _keys(history: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pack (position of the history, item) so that it sorts as the pair, with three low bits left for a hop."""
    return (history << 34) | (item << 3)


def _legs(rows: Gatherable, window: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every (history, x, hop) such that x is within `hop` of a context item within `hop`: sorted, packed."""
    edges = rows.gather(window.ravel())
    history, before = np.divmod(edges.position, HOPS)
    legs = _keys(history, edges.neighbour) | np.maximum(before + 1, edges.hop)
    return np.append(np.sort(legs), np.iinfo(np.int64).max)  # a last entry, so that every search ends on one


def _reach(legs: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The smallest hop among the legs of each key: hops lie in the low bits, so the first entry has it."""
    found = legs[np.searchsorted(legs, keys)]
    return np.where(found >> 3 == keys >> 3, found & 7, _NEVER)
