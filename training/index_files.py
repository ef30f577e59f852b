"""A transition index on disk: the index itself, the ids of its items, and the tails that an update goes on from.

`transitions.npz` is what a bundle holds. `transitions.items.parquet` (item_id; row i is index i + 1) and
`transitions.tails.parquet` stand beside it and stay offline.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import DataError
from models.transitions import TransitionIndex


@dataclass(frozen=True)
class Known:
    """What an update goes on from."""

    index: TransitionIndex
    item_ids: list[str]  # index i + 1 is item_ids[i]
    tails: Path
    held_out: int  # how many last events of each user are not in the index


WriteTails = Callable[[Path, str], None]
"""Writes the tails to the path, with the digest of the index and `held_out` as the metadata of the file."""


def write_index(
    out: Path, work: Path, index: TransitionIndex, item_ids: list[str], write_tails: WriteTails | None
) -> None:
    """Write the files of an index, replacing those at `out`; without tails it cannot be updated.

    They are written to `work`, a folder on the same volume, and moved when all are complete. The tails carry the digest
    of the index, so that files of two builds are never taken for one.
    """
    places = (out, _beside(out, "items"), _beside(out, "tails"))
    parts = [work / place.name for place in places]
    index.save(parts[0])
    pq.write_table(pa.table({"item_id": pa.array(item_ids, pa.string())}), parts[1])
    if write_tails:
        write_tails(parts[2], _digest(parts[0]))
    for part, place in zip(parts, places, strict=True):
        if part.exists():
            part.replace(place)
        else:
            place.unlink(missing_ok=True)


def read_index(path: Path) -> Known:
    """Read what `write_index` wrote.

    Raises:
        BundleError: the index cannot be read.
        DataError: its items or tails are missing, or not those of this index.
    """
    index, tails = TransitionIndex.load(path), _beside(path, "tails")
    try:
        item_ids = pq.read_table(_beside(path, "items"))["item_id"].to_pylist()
        facts = pq.read_schema(tails).metadata or {}
    except (OSError, ValueError, KeyError) as error:
        raise _refusal(path, str(error)) from error
    if facts.get(b"digest") != _digest(path).encode():
        raise _refusal(path, f"{tails} belongs to another index")
    return Known(index, item_ids, tails, int(facts[b"held_out"]))


def _beside(index: Path, what: str) -> Path:
    return index.with_suffix(f".{what}.parquet")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refusal(path: Path, reason: str) -> DataError:
    return DataError(
        "An index is updated with the items and tails that `tandem index build` writes beside it, if min_count is 1; "
        f"{path} has none that fit: {reason}. Build it again from all events, with min_count=1."
    )
