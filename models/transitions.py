"""The item-transition index: which items followed which in training, at distance 1 to 4, and how often.

Two shapes hold the same rows. `TransitionIndex` is the whole index, as it lies in a bundle; `RowTable` holds the few
rows that one batch of requests needs, as they come from a cache. What reads transitions (`models.paths`) asks only for
`Transitions`, which both are.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError

HOPS = 4
"""The longest distance between two items of a sequence that still counts as a transition."""

Direction = Literal["forward", "backward"]
DIRECTIONS: tuple[Direction, Direction] = ("forward", "backward")
FORWARD = 0
"""The side of a transition whose neighbour came after the item: its place in DIRECTIONS."""

_WIRE = np.dtype("<i4")
_HEADER = struct.Struct(f"<{HOPS}i")

# Of the parts of a pair of rows: forward by distance, then backward.
_SIDES = np.repeat(np.arange(len(DIRECTIONS), dtype=np.int32), HOPS)
_DISTANCES = np.tile(np.arange(1, HOPS + 1, dtype=np.int32), len(DIRECTIONS))


class Edges(NamedTuple):
    """The transitions of several items in both directions, flattened: parallel arrays [E], in no promised order."""

    position: NDArray[np.int64]
    """Which of the items asked for has this transition."""
    side: NDArray[np.int32]
    """Its place in DIRECTIONS: 0 when the neighbour came after the item, 1 when it came before."""
    hop: NDArray[np.int32]
    """Its exact distance, 1..HOPS."""
    neighbour: NDArray[np.int32]
    """The item at the other end."""
    times: NDArray[np.int32]
    """How often training has it at this distance."""

    def take(self, order: NDArray[np.int64]) -> "Edges":
        """Some of them, in another order."""
        return Edges(self.position[order], self.side[order], self.hop[order], self.neighbour[order], self.times[order])


@dataclass(frozen=True)
class Row:
    """The transitions of one item in one direction. Entry h - 1 of each tuple belongs to the exact distance h.

    Neighbours ascend within a distance. A neighbour seen at two distances appears under both.
    """

    neighbours: tuple[NDArray[np.int32], ...]
    counts: tuple[NDArray[np.int32], ...]

    def adjacent_counts(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """How often each of `items` was next to this row's item in training: right after it, in a forward row.

        Over `counts[0].sum()`, a forward row's counts are the strengths of its transitions (phi of MemGen, figure 6).
        """
        neighbours, counts = self.neighbours[0], self.counts[0]
        if not neighbours.size:
            return np.zeros(items.shape, dtype=np.int64)
        at = np.minimum(np.searchsorted(neighbours, items), neighbours.size - 1)
        return np.where(neighbours[at] == items, counts[at], 0).astype(np.int64)


EMPTY_ROW = Row(
    neighbours=(np.empty(0, dtype=np.int32),) * HOPS,
    counts=(np.empty(0, dtype=np.int32),) * HOPS,
)


def merge(row: Row, other: Row) -> Row:
    """Add up the counts of two rows of the same item and direction."""
    hops = [
        _merge_hop(*parts) if parts[2].size else parts[:2]
        for parts in zip(row.neighbours, row.counts, other.neighbours, other.counts, strict=True)
    ]
    return Row(neighbours=tuple(hop[0] for hop in hops), counts=tuple(hop[1] for hop in hops))


def _merge_hop(
    neighbours: NDArray[np.int32], counts: NDArray[np.int32], more: NDArray[np.int32], more_counts: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    merged, place = np.unique(np.concatenate([neighbours, more]), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate([counts, more_counts]))
    return merged, total.astype(np.int32)


@dataclass(frozen=True)
class Rows:
    """The transitions of one item in both directions."""

    forward: Row
    backward: Row

    def __or__(self, other: "Rows") -> "Rows":
        return Rows(merge(self.forward, other.forward), merge(self.backward, other.backward))

    @cached_property
    def flat(self) -> NDArray[np.int32]:
        """[4, transitions]: side, distance, neighbour and count of each. Kept, for rows that serve many requests."""
        neighbours = self.forward.neighbours + self.backward.neighbours
        lengths = [len(part) for part in neighbours]
        return np.stack(
            [
                np.repeat(_SIDES, lengths),
                np.repeat(_DISTANCES, lengths),
                np.concatenate(neighbours),
                np.concatenate(self.forward.counts + self.backward.counts),
            ]
        )


EMPTY_ROWS = Rows(EMPTY_ROW, EMPTY_ROW)


def encode_row(row: Row) -> bytes:
    """Pack a row into one binary value.

    Layout, little-endian int32 throughout: four lengths (distance 1 first), then the neighbours of the four distances
    one after the other, then their counts in the same order. 16 + 8 * (transitions) bytes.
    """
    header = _HEADER.pack(*(len(neighbours) for neighbours in row.neighbours))
    return header + np.concatenate([*row.neighbours, *row.counts]).astype(_WIRE, copy=False).tobytes()


def decode_row(value: bytes) -> Row:
    """Unpack what `encode_row` made. The arrays are read-only views of `value`.

    Raises:
        BundleError: the value was not written by `encode_row`.
    """
    lengths = _HEADER.unpack_from(value) if len(value) >= _HEADER.size else (-1,)
    if min(lengths) < 0 or len(value) != _HEADER.size + 2 * sum(lengths) * _WIRE.itemsize:
        raise BundleError(
            "A cached transition row holds four lengths and as many neighbours and counts as they announce; "
            f"received {len(value)} bytes that do not add up. Delete the key, or load the index into the cache again."
        )
    words = np.frombuffer(value, dtype=_WIRE)
    parts = tuple(words[start:end] for start, end in pairwise(accumulate([HOPS, *lengths, *lengths])))
    return Row(neighbours=parts[:HOPS], counts=parts[HOPS:])


class Transitions(Protocol):
    """Rows of both directions, addressed by item index."""

    def gather(self, items: NDArray[np.int64]) -> Edges:
        """Every transition of each of `items` [n]; an item without a row, and the padding 0, has none."""


@dataclass(frozen=True)
class Adjacency:
    """One direction for the whole catalogue: for each exact distance a CSR matrix. Row = item index; row 0 is empty."""

    offsets: tuple[NDArray[np.int64], ...]
    """HOPS arrays [N + 2]."""
    neighbours: tuple[NDArray[np.int32], ...]
    """HOPS arrays [transitions], ascending within a row."""
    counts: tuple[NDArray[np.int32], ...]
    """HOPS arrays [transitions]."""

    @property
    def num_items(self) -> int:
        """N; item indexes run from 1 to N."""
        return len(self.offsets[0]) - 2

    def row(self, item: int) -> Row:
        """The transitions of one item; empty when the index does not know it."""
        if not 0 < item <= self.num_items:
            return EMPTY_ROW
        spans = [slice(int(offsets[item]), int(offsets[item + 1])) for offsets in self.offsets]
        return Row(
            neighbours=tuple(values[span] for values, span in zip(self.neighbours, spans, strict=True)),
            counts=tuple(values[span] for values, span in zip(self.counts, spans, strict=True)),
        )

    def gather_hop(self, items: NDArray[np.int64], hop: int, side: int) -> Edges:
        """The transitions of `items` at one exact distance, marked as being of `side`."""
        rows = np.where((items > 0) & (items <= self.num_items), items, 0)
        offsets = self.offsets[hop - 1]
        starts = offsets[rows]
        lengths = offsets[rows + 1] - starts
        total = int(lengths.sum())
        # Where entry e of the output lies in `neighbours`: its row's start, plus e less what earlier rows took.
        source = np.arange(total) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        return Edges(
            position=np.repeat(np.arange(len(rows)), lengths),
            side=np.full(total, side, dtype=np.int32),
            hop=np.full(total, hop, dtype=np.int32),
            neighbour=self.neighbours[hop - 1][source],
            times=self.counts[hop - 1][source],
        )


@dataclass(frozen=True)
class RowTable:
    """The rows of a handful of items, by item index; every other item has none."""

    rows: Mapping[int, Rows]

    def gather(self, items: NDArray[np.int64]) -> Edges:
        """See `Transitions`."""
        parts = [self.rows.get(item, EMPTY_ROWS).flat for item in items.tolist()] or [EMPTY_ROWS.flat]
        side, hop, neighbour, times = np.concatenate(parts, axis=1)
        position = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
        return Edges(position, side, hop, neighbour, times)


@dataclass(frozen=True)
class TransitionIndex:
    """Every transition of the training sequences, in both directions, with counts."""

    forward: Adjacency
    backward: Adjacency

    @property
    def num_items(self) -> int:
        """N; item indexes run from 1 to N."""
        return self.forward.num_items

    def gather(self, items: NDArray[np.int64]) -> Edges:
        """See `Transitions`."""
        parts = [
            adjacency.gather_hop(items, hop, side)
            for side, adjacency in enumerate((self.forward, self.backward))
            for hop in range(1, HOPS + 1)
        ]
        return Edges(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def row(self, direction: Direction, item: int) -> Row:
        """The transitions of one item in one direction; empty when the index does not know it."""
        return (self.forward if direction == "forward" else self.backward).row(item)

    def save(self, path: Path) -> None:
        """Write the index as a compressed npz. The same index gives the same bytes."""
        arrays = {
            f"{direction}_{field}_{hop}": getattr(getattr(self, direction), field)[hop - 1]
            for direction in DIRECTIONS
            for field in _DTYPES
            for hop in range(1, HOPS + 1)
        }
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "TransitionIndex":
        """Read what `save` wrote.

        Raises:
            BundleError: the file cannot be read, or its arrays do not form an index.
        """
        try:
            with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
                forward, backward = (_read(arrays, direction) for direction in DIRECTIONS)
        except _UNREADABLE as error:
            raise _refusal(path, str(error)) from error
        for direction, adjacency in zip(DIRECTIONS, (forward, backward), strict=True):
            if fault := _fault(adjacency, forward.num_items):
                raise _refusal(path, f"{direction}: {fault}")
        return cls(forward, backward)


_DTYPES = {"offsets": np.dtype(np.int64), "neighbours": np.dtype(np.int32), "counts": np.dtype(np.int32)}

# What numpy and zipfile raise on a missing, truncated or altered archive.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def _read(arrays: Mapping[str, NDArray[Any]], direction: Direction) -> Adjacency:
    def read(field: str) -> tuple[NDArray[Any], ...]:
        values = tuple(arrays[f"{direction}_{field}_{hop}"] for hop in range(1, HOPS + 1))
        for value in values:
            if value.dtype != _DTYPES[field] or value.ndim != 1:
                raise ValueError(f"{direction} {field}: {value.ndim}-d {value.dtype}, expected 1-d {_DTYPES[field]}")
        return values

    return Adjacency(offsets=read("offsets"), neighbours=read("neighbours"), counts=read("counts"))


def _fault(adjacency: Adjacency, num_items: int) -> str | None:
    """What keeps the arrays from being rows of the items 1..num_items, or None."""
    for hop, (offsets, neighbours, counts) in enumerate(
        zip(adjacency.offsets, adjacency.neighbours, adjacency.counts, strict=True), start=1
    ):
        if len(offsets) != num_items + 2 or num_items < 0:
            return f"distance {hop} has {len(offsets)} offsets where {num_items + 2} were expected"
        if offsets[0] != 0 or offsets[1] != 0 or offsets[-1] != len(neighbours) or (np.diff(offsets) < 0).any():
            return f"distance {hop} has offsets that do not divide its {len(neighbours)} neighbours into rows"
        if len(counts) != len(neighbours) or (counts < 1).any():
            return f"distance {hop} has {len(counts)} counts for {len(neighbours)} neighbours, or a count below 1"
        if len(neighbours) and not 1 <= neighbours.min() <= neighbours.max() <= num_items:
            return f"distance {hop} has neighbours outside 1..{num_items}"
        ascends = np.diff(neighbours) > 0
        row_starts = offsets[(offsets > 0) & (offsets < len(neighbours))]
        ascends[row_starts - 1] = True
        if not ascends.all():
            return f"distance {hop} has a row whose neighbours do not ascend"
    return None


def _refusal(path: Path, reason: str) -> BundleError:
    return BundleError(
        f"A transition index is an npz archive with the arrays of both directions; {path} is not one: {reason}. "
        "Publish the bundle again."
    )
