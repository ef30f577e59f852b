"""Build and update a transition index in bounded memory.

An update counts the users who have new events, with the same SQL, twice: what was known of them (their tails), and the
same with the new events behind it. The index moves by the difference, which can also be a loss: a user of two events
is trained on whole, a user of three only on the first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.status import Status

from models.errors import DataError
from models.transitions import HOPS, Adjacency, TransitionIndex
from training import index_events as events
from training.data.dataset import MIN_EVENTS, dataset_of, open_source
from training.data.options import ReadOptions
from training.data.source import Source
from training.index_build import Count, build_index, count_in_duckdb, lay_out
from training.index_files import read_index, write_index

_MERGED = """
SELECT hop, source, destination, SUM(occurrences) AS occurrences
FROM (FROM known UNION ALL FROM gained UNION ALL SELECT hop, source, destination, -occurrences FROM lost)
GROUP BY hop, source, destination
HAVING SUM(occurrences) > 0
"""


@dataclass(frozen=True)
class Resources:
    """What a job may use. The memory is that of the engine; the finished index comes on top."""

    engine: Literal["duckdb", "spark"] = "duckdb"
    memory_mib: int = 2048


@dataclass(frozen=True)
class _Job:
    """What the steps of a job work with."""

    work: Path
    connection: duckdb.DuckDBPyConnection
    count: Count
    status: Status

    def read(self, source: Source) -> int:
        done = 0
        for done in events.arrive(self.connection, source):
            self.status.update(f"reading events: {done:,}")
        if dropped := source.policies[0].dropped:
            self.status.console.print(f"left out: {dict(dropped)}")
        return done

    def count_events(self, table: str, *, new: bool, held_out: int) -> None:
        self.status.update("counting transitions")
        events.train_on(self.connection, new=new, held_out=held_out)
        self.count(self.connection, table)

    def finish(self, item_ids: list[str], held_out: int, out: Path) -> TransitionIndex:
        self.status.update("writing the index")
        index = lay_out(self.connection, len(item_ids))
        write_index(out, self.work, index, item_ids, partial(events.write_tails, self.connection, held_out))
        return index


def build(
    path: Path, options: ReadOptions, out: Path, resources: Resources, console: Console, *, all_events: bool = False
) -> TransitionIndex:
    """Index the training events of a data set and write the index to `out`, ready for `update`.

    Events that a k-core filters are read into memory, and their index cannot be updated: new events move the core.

    Args:
        all_events: index the last two events of each user too, which are otherwise held out.

    Raises:
        DataError: the data set cannot be read, or has no event.
        TrainingError: the engine is not installed.
    """
    source, held_out = open_source(path, options), 0 if all_events else MIN_EVENTS - 1
    with _job(out, resources, console) as job:
        if source.min_count > 1:
            return _build_filtered(path, source, out, job, all_events=all_events)
        if not job.read(source):
            raise DataError(
                f"{path}: no interaction is left to build an index from; check the file and what was dropped"
            )
        events.no_tails(job.connection)
        item_ids = events.number_items(job.connection, source, [])
        events.put_in_order(job.connection)
        job.count_events("transitions", new=True, held_out=held_out)
        return job.finish(item_ids, held_out, out)


def update(
    path: Path, options: ReadOptions, known_index: Path, out: Path, resources: Resources, console: Console
) -> TransitionIndex:
    """Add new events to an index that `build` or `update` wrote; the result equals a build of all events together.

    Known items keep their indexes, new ones follow. `out` may be `known_index`.

    Raises:
        DataError: the new events cannot be read, are late, or the index is none that can be updated.
        BundleError: the index cannot be read.
        TrainingError: the engine is not installed.
    """
    known, source = read_index(known_index), open_source(path, options)
    if source.min_count > 1:
        raise DataError(f"{path}: new events are all counted, got min_count={source.min_count}; pass min_count=1")
    with _job(out, resources, console) as job:
        job.read(source)
        events.open_tails(job.connection, known.tails)
        item_ids = events.number_items(job.connection, source, known.item_ids)
        events.put_in_order(job.connection)
        job.count_events("lost", new=False, held_out=known.held_out)
        job.count_events("gained", new=True, held_out=known.held_out)
        _load_known(job.connection, known.index.forward)
        job.connection.execute(f"CREATE TABLE transitions AS {_MERGED}")
        return job.finish(item_ids, known.held_out, out)


@contextmanager
def _job(out: Path, resources: Resources, console: Console) -> Iterator[_Job]:
    """Work in a folder beside `out`, where there is room for large files and where Spark's workers see them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".index-") as folder, console.status("reading events") as status:
        work = Path(folder)
        with events.database(work, resources.memory_mib) as connection:
            yield _Job(work, connection, _counter(resources, work), status)


def _counter(resources: Resources, work: Path) -> Count:
    if resources.engine == "duckdb":
        return count_in_duckdb
    from training.index_spark import count_in_spark

    return partial(count_in_spark, work=work, memory_mib=resources.memory_mib)


def _build_filtered(path: Path, source: Source, out: Path, job: _Job, *, all_events: bool) -> TransitionIndex:
    dataset = dataset_of(source, path)
    sequences = dataset.sequences if all_events else dataset.training_sequences()
    job.status.update("counting transitions")
    index = build_index(sequences, dataset.num_items, job.count)
    write_index(out, job.work, index, dataset.items["item_id"].to_pylist(), None)
    return index


def _load_known(connection: duckdb.DuckDBPyConnection, forward: Adjacency) -> None:
    """Make the table `known` of an index, in the form that TRANSITIONS_SQL gives."""
    connection.execute("CREATE TABLE known (hop INTEGER, source INTEGER, destination INTEGER, occurrences BIGINT)")
    for hop in range(1, HOPS + 1):
        rows = np.arange(forward.num_items + 1, dtype=np.int32)
        source = np.repeat(rows, np.diff(forward.offsets[hop - 1]))
        columns = {"source": source, "destination": forward.neighbours[hop - 1], "count": forward.counts[hop - 1]}
        connection.register("part", pa.table(columns))
        connection.execute(f"INSERT INTO known SELECT {hop}, source, destination, count FROM part")
