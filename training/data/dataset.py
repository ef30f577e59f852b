"""A data set as everything offline sees it: one chronological sequence of dense item indexes per user.

`load_dataset` is the one way in; what it decides on the way (ties, repeats, filters) is told in `Dataset.report`.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import DataError
from training.data.chronicle import Chronicle
from training.data.events import concat, id_order
from training.data.items import item_table
from training.data.options import ReadOptions
from training.data.raw import open_raw, recognise
from training.data.source import Source
from training.data.tables import open_table

MIN_EVENTS = 3  # one to train on, one to validate, one to test
SORTED = "events of a user are sorted by {!r}; equal values keep the order of the file (stable sort)"
UNSORTED = "no time column: events of a user keep the order of the file"


@dataclass(frozen=True)
class LoadReport:
    """What reading kept and dropped: rows = kept + dropped, but for the reasons that begin with "items file"."""

    rows: int
    kept: int
    dropped: dict[str, int]  # reason -> count
    tie_rule: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instances:
    """Evaluation instances of one split, row by row."""

    users: NDArray[np.int64]  # [I] positions into Dataset.user_ids
    histories: list[NDArray[np.int32]]  # I x [>= 1], oldest first
    targets: NDArray[np.int32]  # [I]


@dataclass(frozen=True)
class Dataset:
    """Users, their chronological sequences, and the catalogue. Split leave-last-out.

    The last event of a user is the test target, the last but one the validation target, the rest trains. Users with
    fewer than three events are trained on whole and are no evaluation instance.
    """

    name: str
    user_ids: list[str]
    sequences: list[NDArray[np.int32]]  # one per user, oldest first, indexes 1..N
    items: pa.Table  # row i is index i + 1: item_id, title, text; brand, categories, price where known
    report: LoadReport

    @property
    def num_items(self) -> int:
        """N: indexes run from 1 to N."""
        return int(self.items.num_rows)

    def training_sequences(self) -> list[NDArray[np.int32]]:
        """What a model may see: each sequence without its last two events (whole where it has fewer than three)."""
        return [sequence[:-2] if len(sequence) >= MIN_EVENTS else sequence for sequence in self.sequences]

    def instances(self, split: Literal["valid", "test"]) -> Instances:
        """Histories and targets of a split; the history of a test instance includes the validation event."""
        end = -2 if split == "valid" else -1
        users = [user for user, sequence in enumerate(self.sequences) if len(sequence) >= MIN_EVENTS]
        return Instances(
            users=np.array(users, dtype=np.int64),
            histories=[self.sequences[user][:end] for user in users],
            targets=np.array([self.sequences[user][end] for user in users], dtype=np.int32),
        )


def load_dataset(path: Path, options: ReadOptions | None = None) -> Dataset:
    """Read a folder with `interactions.parquet`, a table with named columns, or a raw public data set.

    Dense indexes follow the sorted item ids: by value where all ids are integers, else as text; users likewise.
    With a k-core filter the catalogue is what is left of it; without, every row of the items file is in it too.
    Raises DataError that names file, row and column for rows that cannot be used, and when nothing usable is left.
    """
    path = Path(path)
    return dataset_of(open_source(path, options or ReadOptions()), path)


def open_source(path: Path, options: ReadOptions) -> Source:
    """Open what `load_dataset` reads; nothing is ordered or filtered yet."""
    kind = recognise(path) if options.format == "auto" else options.format
    return open_table(path, options) if kind == "table" else open_raw(path, kind, options)


def dataset_of(source: Source, path: Path) -> Dataset:
    """The data set that a source opened from `path` holds; reads it to its end. Raises as `load_dataset` does."""
    events = concat(source.batches)
    dropped: Counter[str] = Counter()
    chronicle = Chronicle.of(events, source.min_count, dropped)
    _check_usable(path, chronicle, sum((policy.dropped for policy in source.policies), dropped))
    catalogue = _catalogue(source, chronicle.present_items())
    return Dataset(
        name=source.name,
        user_ids=chronicle.present_users(),
        sequences=chronicle.sequences(catalogue["item_id"].to_pylist()),
        items=catalogue,
        report=LoadReport(
            rows=len(events.users) + source.policies[0].total,
            kept=len(chronicle.users),
            dropped=dict(+sum((policy.dropped for policy in source.policies), dropped)),
            tie_rule=UNSORTED if source.order is None else SORTED.format(source.order),
            notes=_notes(catalogue),
        ),
    )


def _catalogue(source: Source, used: set[str]) -> pa.Table:
    """The item table: the items with events, and the other rows of a file that lists the catalogue."""
    rows = list(source.items(used))
    return item_table(rows, id_order(list(used.union(row["item_id"] for row in rows))))


def _notes(catalogue: pa.Table) -> tuple[str, ...]:
    without = catalogue["text"].to_pylist().count("")
    return (f"{without} of {catalogue.num_rows} items have no text",) if without else ()


def _check_usable(path: Path, chronicle: Chronicle, dropped: Counter[str]) -> None:
    if not len(chronicle.users):
        raise DataError(
            f"{path}: no interaction is left (dropped: {dict(+dropped) or 'none, the file is empty'}); "
            "lower min_count, or correct what was dropped"
        )
    longest = int(np.bincount(chronicle.users).max())
    if longest < MIN_EVENTS:
        raise DataError(
            f"{path}: no user has {MIN_EVENTS} events (the longest sequence has {longest}), so nothing can be tested; "
            "check that the user column identifies users, or bring more history"
        )
