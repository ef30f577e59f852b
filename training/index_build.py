"""Count the transitions of training sequences with one SQL text, and lay them out as a `TransitionIndex`."""

from collections.abc import Callable, Iterable

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import DataError
from models.transitions import HOPS, Adjacency, TransitionIndex

# ANSI SQL, so that it runs unchanged on DuckDB and on Spark, over a table `events` (user_id, position, item).
# One UNION ALL branch for each distance: a cross join with the distances costs Spark more.
TRANSITIONS_SQL = """
WITH leads AS (
    SELECT
        item AS source,
        LEAD(item, 1) OVER ordered AS next_1,
        LEAD(item, 2) OVER ordered AS next_2,
        LEAD(item, 3) OVER ordered AS next_3,
        LEAD(item, 4) OVER ordered AS next_4
    FROM events
    WINDOW ordered AS (PARTITION BY user_id ORDER BY position)
),
transitions AS (
    SELECT 1 AS hop, source, next_1 AS destination FROM leads WHERE next_1 IS NOT NULL
    UNION ALL
    SELECT 2 AS hop, source, next_2 AS destination FROM leads WHERE next_2 IS NOT NULL
    UNION ALL
    SELECT 3 AS hop, source, next_3 AS destination FROM leads WHERE next_3 IS NOT NULL
    UNION ALL
    SELECT 4 AS hop, source, next_4 AS destination FROM leads WHERE next_4 IS NOT NULL
)
SELECT hop, source, destination, COUNT(*) AS occurrences
FROM transitions
GROUP BY hop, source, destination
"""


Count = Callable[[duckdb.DuckDBPyConnection, str], None]
"""Makes a table of that name, with the columns of TRANSITIONS_SQL, out of the relation `events` of the connection."""


def count_in_duckdb(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    """Count within the connection, in the memory that it is allowed; what does not fit goes to its folder on disk."""
    connection.execute(f"CREATE TABLE {table} AS {TRANSITIONS_SQL}")


def build_index(
    sequences: Iterable[NDArray[np.int32]], num_items: int, count: Count = count_in_duckdb
) -> TransitionIndex:
    """Index the transitions of `sequences`, each one user's items in time order. An item may follow itself.

    Raises:
        DataError: an item index lies outside 1..num_items.
    """
    with duckdb.connect() as connection:
        connection.register("events", _events(list(sequences), num_items))
        count(connection, "transitions")
        return lay_out(connection, num_items)


def lay_out(connection: duckdb.DuckDBPyConnection, num_items: int) -> TransitionIndex:
    """Read the table `transitions` of the connection, which holds each transition once, as an index."""
    return TransitionIndex(
        forward=_adjacency(connection, "source", "destination", num_items),
        backward=_adjacency(connection, "destination", "source", num_items),
    )


def _events(sequences: list[NDArray[np.int32]], num_items: int) -> pa.Table:
    lengths = [len(sequence) for sequence in sequences]
    items = np.concatenate([*sequences, np.empty(0, dtype=np.int32)], dtype=np.int32)
    if items.size and not 1 <= items.min() <= items.max() <= num_items:
        raise DataError(
            f"Training sequences hold dense item indexes 1..{num_items}; received {items.min()}..{items.max()}. "
            "Number the items with the catalogue that the index is built for."
        )
    # `position` only has to ascend within a user, so the event's place in the whole table serves.
    return pa.table(
        {"user_id": np.repeat(np.arange(len(sequences)), lengths), "position": np.arange(items.size), "item": items}
    )


def _adjacency(connection: duckdb.DuckDBPyConnection, row: str, neighbour: str, num_items: int) -> Adjacency:
    """One CSR matrix for each distance, from the transitions sorted by row and neighbour."""
    offsets, neighbours, counts = [], [], []
    for hop in range(1, HOPS + 1):
        found = connection.execute(
            f"SELECT {row}, {neighbour}, CAST(occurrences AS INTEGER) AS occurrences FROM transitions "
            f"WHERE hop = {hop} ORDER BY {row}, {neighbour}"
        ).fetchnumpy()
        offsets.append(np.searchsorted(found[row], np.arange(num_items + 2)).astype(np.int64))
        neighbours.append(found[neighbour])
        counts.append(found["occurrences"])
    return Adjacency(tuple(offsets), tuple(neighbours), tuple(counts))
