"""The trie of the catalogue's semantic ids, as flat tables that a graph can gather from.

Nodes of a level are numbered in lexicographic order of their code prefix. The children of node `n` at level `t` are
therefore the consecutive nodes `start[t][n] .. start[t][n + 1] - 1` of level `t + 1`, so that no table of child nodes
is needed: 4 bytes an edge for the code, 4 bytes a node for the start.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Trie:
    """Child tables of all levels.

    Attributes:
        start: for level t = 0..D-1 int32 [nodes of level t + 1]; level 0 has one node, the root.
        code: for level t int32 [nodes of level t + 1]: the code on the edge that leads to each node of level t + 1.
        leaf_item: int64 [N], the item index at each leaf.
    """

    start: tuple[NDArray[np.int32], ...]
    code: tuple[NDArray[np.int32], ...]
    leaf_item: NDArray[np.int64]

    @classmethod
    def build(cls, codes: NDArray[np.int64]) -> "Trie":
        """The trie of `codes` [N + 1, D]; row 0 is padding and left out.

        Raises:
            BundleError: two items share all their codes.
        """
        body = codes[1:]
        order = _lexicographic(body)
        starts, edge_codes = [], []
        opens = np.zeros(len(order), dtype=np.bool_)  # the sorted rows at which a node of the level begins
        opens[0] = True
        begin = np.zeros(1, dtype=np.int64)
        for level in range(body.shape[1]):
            column = body[order, level]
            opens[1:] |= column[1:] != column[:-1]
            parents_begin, begin = begin, np.flatnonzero(opens)
            edge_codes.append(column[begin].astype(np.int32))
            starts.append(np.r_[np.searchsorted(begin, parents_begin), len(begin)].astype(np.int32))
        if len(begin) < len(order):
            twin = int(np.flatnonzero(~opens)[0])
            first, second = sorted((order[twin - 1 : twin + 1] + 1).tolist())
            raise BundleError(
                f"semantic ids must be unique, but items {first} and {second} share {codes[first].tolist()}. "
                "Add a collision digit."
            )
        return cls(tuple(starts), tuple(edge_codes), order + 1)

    @property
    def levels(self) -> int:
        """D, the number of codes of an item."""
        return len(self.code)

    @property
    def items(self) -> int:
        """N, the number of items."""
        return len(self.leaf_item)

    @cached_property
    def leaf_of(self) -> NDArray[np.int64]:
        """[N + 1]: the leaf of each item; position 0 is padding."""
        leaves = np.zeros(self.items + 1, dtype=np.int64)
        leaves[self.leaf_item] = np.arange(self.items)
        return leaves

    def fan_out(self, level: int) -> int:
        """The largest number of children of a node of `level`."""
        return int(np.diff(self.start[level]).max())

    def tables(self) -> Mapping[str, NDArray[np.generic]]:
        """The catalogue inputs of a generative graph, by input name; `span` carries the fan-out in its length."""
        tables: dict[str, NDArray[np.generic]] = {"leaf_item": self.leaf_item}
        for level in range(self.levels):
            tables[f"start_{level}"] = self.start[level]
            tables[f"code_{level}"] = self.code[level]
            tables[f"span_{level}"] = np.arange(self.fan_out(level), dtype=np.int32)
        return tables

    def node_masks(self, allowed: Mask) -> list[Mask]:
        """For items `allowed` [B, N + 1], which nodes of level 1..D lead to at least one of them ([B, nodes])."""
        masks = [allowed[:, self.leaf_item]]
        for level in range(self.levels - 1, 0, -1):
            # Every inner node has a child, so no segment of reduceat is empty.
            masks.append(np.logical_or.reduceat(masks[-1], self.start[level][:-1], axis=1))
        return masks[::-1]


def _lexicographic(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order [n] that sorts rows [n, D] of numbers from 0; rows that are equal come in any order."""
    bits = [int(column.max()).bit_length() for column in rows.T]
    if sum(bits) > 64:
        return np.lexsort(rows.T[::-1])
    # One sort of whole rows packed into integers, instead of a sort for every level.
    key = np.zeros(len(rows), dtype=np.uint64)
    for column, width in zip(rows.T, bits, strict=True):
        key = key << np.uint64(width) | column.astype(np.uint64)
    return np.argsort(key)
