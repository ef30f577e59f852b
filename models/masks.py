"""Which items a request may be answered with, as masks over items and over the nodes of the trie.

A request hides a few items (those seen, those excluded) of many. What stays open is worked out from a filter that was
prepared once: only the nodes above the hidden items can close, and one does when the last of its children has.

Shapes: `N` items, `D` levels.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.compiled import compiled, lower_bound
from models.trie import Mask, Trie


@dataclass(frozen=True)
class Filter:
    """The items that a request starts from, prepared for hiding some of them."""

    trie: Trie
    items: Mask
    """[N + 1]: which of them are open."""
    nodes: tuple[Mask, ...]
    """D masks [nodes of level 1..D]: the nodes that lead to an open item."""
    children: tuple[NDArray[np.int32], ...]
    """For level 0..D-1 [nodes]: how many children of a node are open."""

    @classmethod
    def of(cls, trie: Trie, items: Mask) -> "Filter":
        """Prepare the filter that lets `items` [N + 1] pass; reads the whole catalogue."""
        nodes = tuple(mask[0] for mask in trie.node_masks(items[np.newaxis]))
        children = (
            np.add.reduceat(mask, start[:-1], dtype=np.int32) for mask, start in zip(nodes, trie.start, strict=True)
        )
        return cls(trie, items, nodes, tuple(children))

    def without(self, hidden: Sequence[int]) -> "Open":
        """What is open when some items (1..N, repeated or not) are hidden as well."""
        indexes = _distinct(hidden)
        items = self.items.copy()
        items[indexes] = False
        return Open(self, indexes[self.items[indexes]], items)

    @property
    def nbytes(self) -> int:
        """The memory it takes, without the trie."""
        return self.items.nbytes + sum(array.nbytes for array in (*self.nodes, *self.children))


@dataclass(frozen=True)
class Open:
    """The items and nodes that are open to one request."""

    filter: Filter
    hidden: NDArray[np.int64]  # items that the filter lets pass and the request does not
    items: Mask
    """[N + 1]."""

    @cached_property
    def nodes(self) -> Sequence[Mask]:
        """D masks [nodes of level 1..D]; equal to `Trie.node_masks` of the items."""
        trie, masks = self.filter.trie, [mask.copy() for mask in self.filter.nodes]
        closing = np.sort(trie.leaf_of[self.hidden])
        for level in range(trie.levels - 1, -1, -1):
            closing = _close(masks[level], closing, trie.start[level], self.filter.children[level])
        return masks


@compiled
def _close(
    mask: Mask, nodes: NDArray[np.int64], start: NDArray[np.int32], children: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Close `nodes` (ascending, distinct) of one level in its `mask`; the parents that lose their last open child.

    `start` and `children` of the parents are those of `Trie` and `Filter`: a parent's children lie side by side.
    """
    mask[nodes] = False
    closed = np.empty(len(nodes), np.int64)
    count = at = 0
    while at < len(nodes):
        parent = lower_bound(start, nodes[at] + 1) - 1  # the last that starts at or before the node
        first = at
        while at < len(nodes) and nodes[at] < start[parent + 1]:
            at += 1
        if at - first == children[parent]:
            closed[count] = parent
            count += 1
    return closed[:count]


class Filters:
    """Filters by the items that they let pass; those used last are kept within a bound in bytes."""

    def __init__(self, trie: Trie, limit: int) -> None:
        self._trie = trie
        self._limit = limit
        self._everything = Filter.of(trie, np.ones(trie.items + 1, dtype=np.bool_))
        self._kept: OrderedDict[bytes, Filter] = OrderedDict()
        self._bytes = 0

    def get(self, only: Sequence[int] | None) -> Filter:
        """The filter for the item indexes in `only`, in any order; None lets every item pass."""
        if only is None:
            return self._everything
        indexes = _distinct(only)
        key = indexes.tobytes()
        found = self._kept.pop(key, None)
        if found is None:
            items = np.zeros(self._trie.items + 1, dtype=np.bool_)
            items[indexes] = True
            found = Filter.of(self._trie, items)
            self._bytes += found.nbytes + len(key)
        self._kept[key] = found  # now the one used last
        while self._bytes > self._limit:
            gone, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes + len(gone)
        return found


def _distinct(indexes: Sequence[int]) -> NDArray[np.int64]:
    """The item indexes in order, each once; for long lists much faster than `np.unique`, which hashes them."""
    ordered = np.sort(np.asarray(indexes, dtype=np.int64))
    new = np.empty(len(ordered), dtype=np.bool_)
    new[:1] = ordered[:1] > 0
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return ordered[new]
