"""How the transitions of one bundle lie in Redis: the names of keys, and the values behind them.

    tandem:{demo@1-<digest>.B}:row:N    both rows of item N as the bundle has them; an item without transitions has a
                                        value too, so that a missing key always means an evicted one
    tandem:{demo@1-<digest>.B}:live:N   the transitions that events have added since, see `encode_live`
    tandem:{demo@1-<digest>}:loaded     says when every row had been written, by its time to live
    tandem:{demo@1-<digest>}:lock       held by the replica that is loading
    tandem:{demo@1-<digest>}:changes    tells the replicas whose live transitions have changed, see `index_changes`
    tandem:active                       the version that was loaded last

The bundle's identity is in every key, so a new version is loaded beside the old one, and begins without live
transitions. B = N % BUCKETS is the hash tag: the keys of an item share a slot of a Redis Cluster, and a version is
spread over at most BUCKETS nodes.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from models.bundle import TRANSITIONS, Bundle
from models.errors import BundleError
from models.transitions import HOPS, Direction, Row, Rows, TransitionIndex, decode_row, encode_row

ACTIVE = "tandem:active"
BUCKETS = 8

_LENGTH = struct.Struct("<i")
_ITEM_BITS = 29
_LIVE = np.dtype("<u4")


class Layout:
    """The keys of one version of an index, and the rows that belong behind them."""

    def __init__(self, version: str, index: TransitionIndex) -> None:
        self._index = index
        self.version = version
        self.items = index.num_items
        self.loaded = f"tandem:{{{version}}}:loaded"
        self.lock = f"tandem:{{{version}}}:lock"
        self.changes = f"tandem:{{{version}}}:changes"

    @classmethod
    def of(cls, bundle: Bundle) -> "Layout":
        """The layout of a bundle's index."""
        digest = bundle.manifest.files[TRANSITIONS].sha256
        return cls(f"{bundle.identity}-{digest[:12]}", bundle.transitions)

    def row(self, item: int) -> str:
        """The key of an item's rows."""
        return f"tandem:{{{self.version}.{item % BUCKETS}}}:row:{item}"

    def live(self, item: int) -> str:
        """The key of an item's live transitions."""
        return f"tandem:{{{self.version}.{item % BUCKETS}}}:live:{item}"

    def rows(self, item: int) -> Rows:
        """The rows of an item as the bundle has them."""
        return Rows(self._index.row("forward", item), self._index.row("backward", item))

    @property
    def bytes(self) -> int:
        """The size of all values that `encode_rows` makes."""
        transitions = sum(
            len(neighbours)
            for adjacency in (self._index.forward, self._index.backward)
            for neighbours in adjacency.neighbours
        )
        return 8 * transitions + self.items * (_LENGTH.size + 2 * 4 * HOPS)


def encode_rows(rows: Rows) -> bytes:
    """Pack the rows of an item: the length in bytes of the first, as little-endian int32, then both."""
    forward, backward = encode_row(rows.forward), encode_row(rows.backward)
    return _LENGTH.pack(len(forward)) + forward + backward


def decode_rows(value: bytes | None) -> Rows | None:
    """Unpack what `encode_rows` made; None when it is missing or damaged."""
    if value is None or len(value) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(value)
    try:
        return Rows(decode_row(value[_LENGTH.size : _LENGTH.size + length]), decode_row(value[_LENGTH.size + length :]))
    except BundleError:
        return None


def encode_live(direction: Direction, hop: int, neighbour: int) -> bytes:
    """Pack one transition at distance `hop` into a little-endian uint32: direction, hop - 1, neighbour.

    A value is a log of such words in any order, one for each time that a transition was seen: appending to it is
    atomic, and writers need not know what it holds.
    """
    kind = (direction == "backward") * HOPS + hop - 1
    return int(kind << _ITEM_BITS | neighbour).to_bytes(_LIVE.itemsize, "little")


def decode_live(value: bytes) -> Rows:
    """Count the transitions of a log."""
    words, counts = np.unique(np.frombuffer(value, dtype=_LIVE, count=len(value) // _LIVE.itemsize), return_counts=True)
    bounds = np.searchsorted(words >> _ITEM_BITS, np.arange(1, 2 * HOPS))
    neighbours = np.split((words & ((1 << _ITEM_BITS) - 1)).astype(np.int32), bounds)
    times: list[NDArray[np.int32]] = np.split(counts.astype(np.int32), bounds)
    return Rows(
        *(
            Row(tuple(neighbours[first : first + HOPS]), tuple(times[first : first + HOPS]))
            for first in range(0, 2 * HOPS, HOPS)
        )
    )
