"""Events in DuckDB: streamed from a reader, numbered, put in order, and cut to what trains.

The rules are those of docs/data.md, "What happens to the events", for more events than memory holds; the tests compare
them with `load_dataset`. Relations of the connection, each made by the function that says so:

* arrived (user_id, item_id, time, place): events as they came, `place` ascending from 0
* tails (user_id, position, time, item): the last events of each user known before, `position` ascending to -1
* ordered (user_id, position, time, item): the users who arrived, each one's tail and then the new events
* events (user_id, position, item): what trains, as TRANSITIONS_SQL reads it
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from models.errors import DataError
from models.transitions import HOPS
from training.data.events import Events, id_order
from training.data.source import Source

_RETURNED = "SELECT user_id, position, time, item FROM tails SEMI JOIN arrived USING (user_id)"

_ORDERED = f"""
WITH placed AS (
    SELECT user_id, place, time, item FROM arrived JOIN items USING (item_id)
    UNION ALL
    {_RETURNED}
),
neighboured AS (
    SELECT
        user_id, time, item,
        ROW_NUMBER() OVER ordered AS position,
        LAG(item) OVER ordered AS item_before,
        LAG(time) OVER ordered AS time_before
    FROM placed
    WINDOW ordered AS (PARTITION BY user_id ORDER BY time, place)
)
SELECT user_id, position, time, item FROM neighboured WHERE (item = item_before AND time = time_before) IS NOT TRUE
"""

# `left_after`: how many events of the same user follow.
_RANKED = """
SELECT
    *,
    COUNT(*) OVER (ordered ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS left_after,
    COUNT(*) OVER (ordered ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS length
FROM ({relation})
WINDOW ordered AS (PARTITION BY user_id ORDER BY position)
"""

_LATE = """
SELECT COUNT(*), MIN(user_id)
FROM arrived JOIN (SELECT user_id, MAX(time) AS latest FROM tails GROUP BY user_id) USING (user_id)
WHERE time < latest
"""

# DuckDB's types of the sort keys that `training.data.events` makes; INTEGER holds nothing but NULL.
_TIME_KINDS = {
    "BIGINT": "whole numbers or timestamps",
    "DOUBLE": "fractions or dates",
    "INTEGER": "no times, only the order of the file",
}


@contextmanager
def database(folder: Path, memory_mib: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in `folder` that holds at most `memory_mib` in memory, and the rest in files there."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory_mib}MiB",
        "temp_directory": str(folder),
        "preserve_insertion_order": False,  # every row carries its place, and the order would be kept in memory
    }
    with duckdb.connect(str(folder / "events.duckdb"), config=config) as connection:
        connection.execute("SET enable_progress_bar = false")
        yield connection


def arrive(connection: duckdb.DuckDBPyConnection, source: Source) -> Iterator[int]:
    """Make `arrived` of the source's events. Yields how many there are so far, batch by batch."""
    place = 0
    for batch in source.batches:
        connection.register("batch", _table(batch, place))
        insert = "INSERT INTO arrived" if place else "CREATE OR REPLACE TABLE arrived AS"
        connection.execute(f"{insert} FROM batch")
        place += len(batch.users)
        yield place


def no_tails(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `tails` empty: nobody is known yet."""
    connection.execute(
        "CREATE VIEW tails AS "
        "SELECT user_id, place AS position, time, CAST(NULL AS INTEGER) AS item FROM arrived WHERE FALSE"
    )


def open_tails(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Make `tails` of the file that `write_tails` left.

    Raises:
        DataError: what arrived has times of another kind, or lies before what is known of its user.
    """
    connection.read_parquet(str(path)).create_view("tails")
    known, new = (_time_kind(connection, relation) for relation in ("tails", "arrived"))
    if known != new:
        raise DataError(
            f"New events have times of the kind that the index was built with: {known}; received {new}. "
            "Convert the time column, or build the index again from all events."
        )
    late, user = connection.execute(_LATE).fetchall()[0]
    if late:
        raise DataError(
            f"New events of a user are not earlier than the last known one; {late:,} are, the first of them of user "
            f"{user!r}. Remove them, or build the index again from all events."
        )


def number_items(connection: duckdb.DuckDBPyConnection, source: Source, known: list[str]) -> list[str]:
    """Number the catalogue: known ids keep their indexes, new ones follow in the order of ids. Returns all of them."""
    used = set(connection.execute("SELECT DISTINCT item_id FROM arrived").fetchnumpy()["item_id"].tolist())
    catalogue = used.union(item["item_id"] for item in source.items(used))
    ids = known + id_order(list(catalogue.difference(known)))
    numbered = pa.table({"item_id": pa.array(ids, pa.string()), "item": np.arange(1, len(ids) + 1, dtype=np.int32)})
    connection.register("items", numbered)
    return ids


def put_in_order(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `ordered` of `arrived`, `tails` and the numbered items, without repeats."""
    connection.execute(f"CREATE TABLE ordered AS {_ORDERED}")


def train_on(connection: duckdb.DuckDBPyConnection, *, new: bool, held_out: int) -> None:
    """Make `events` of the users who arrived: all of `ordered`, or only the tails, what was known of them before.

    held_out: that many last events of a user are left out; a user who has no more than that is taken whole.
    """
    ranked = _RANKED.format(relation="FROM ordered" if new else _RETURNED)
    connection.execute(
        f"CREATE OR REPLACE VIEW events AS SELECT user_id, position, item FROM ({ranked}) "
        f"WHERE left_after >= {held_out} OR length <= {held_out}"
    )


def write_tails(connection: duckdb.DuckDBPyConnection, held_out: int, path: Path, digest: str) -> None:
    """Write the last events of every user, enough to go on from, with the digest of the index that they belong to.

    A later event completes transitions from the last HOPS trained ones, and moves the held-out ones into training.
    """
    connection.execute(
        f"""
        COPY (
            SELECT user_id, position, time, item FROM tails ANTI JOIN arrived USING (user_id)
            UNION ALL
            SELECT user_id, -1 - left_after AS position, time, item FROM ({_RANKED.format(relation="FROM ordered")})
            WHERE left_after < {HOPS + held_out}
        ) TO $path (FORMAT parquet, KV_METADATA {{held_out: {held_out}, digest: $digest}})
        """,
        {"path": str(path), "digest": digest},
    )


def _table(events: Events, place: int) -> pa.Table:
    size = len(events.users)
    time = pa.nulls(size, pa.int32()) if events.times is None else events.times
    places = np.arange(place, place + size)
    return pa.table({"user_id": events.users, "item_id": events.items, "time": time, "place": places})


def _time_kind(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    return _TIME_KINDS[str(connection.table(relation)["time"].types[0])]
