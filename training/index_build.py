"""Count the transitions of training sequences with one SQL text, and lay them out as a `TransitionIndex`."""

from collections.abc import Iterable
from itertools import pairwise

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


def build_index(sequences: Iterable[NDArray[np.int32]], num_items: int) -> TransitionIndex:
    """Index the transitions of `sequences`, each one user's items in time order. An item may follow itself.

    Raises:
        DataError: an item index lies outside 1..num_items.
    """
    with duckdb.connect() as connection:
        connection.register("events", _events(list(sequences), num_items))
        found = connection.execute(TRANSITIONS_SQL).fetchnumpy()
    hop, source, destination, counts = (found[name] for name in ("hop", "source", "destination", "occurrences"))
    return TransitionIndex(
        forward=_adjacency(hop, source, destination, counts, num_items),
        backward=_adjacency(hop, destination, source, counts, num_items),
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


def _adjacency(
    hop: NDArray[np.int32],
    row: NDArray[np.int32],
    neighbour: NDArray[np.int32],
    counts: NDArray[np.int64],
    num_items: int,
) -> Adjacency:
    """Sort the transitions by distance, row and neighbour, and cut them into one CSR matrix for each distance."""
    order = np.lexsort((neighbour, row, hop))
    cuts = np.searchsorted(hop[order], np.arange(1, HOPS + 2))
    parts = [order[start:end] for start, end in pairwise(cuts)]
    rows = np.arange(num_items + 2)
    return Adjacency(
        offsets=tuple(np.searchsorted(row[part], rows).astype(np.int64) for part in parts),
        neighbours=tuple(neighbour[part].astype(np.int32) for part in parts),
        counts=tuple(counts[part].astype(np.int32) for part in parts),
    )
