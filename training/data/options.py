"""How to read a data set: the one options object of every reader."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal[
    "auto",
    "table",
    "amazon2014",
    "amazon2018",
    "amazon2023",
    "movielens100k",
    "movielens1m",
    "movielens",
    "steam",
    "yelp",
]
BadRows = Literal["error", "drop"]


@dataclass(frozen=True)
class ReadOptions:
    """What `load_dataset` may not know from the files alone.

    format: "auto" recognises a format by its file names; "table" is a file (or folder) with named columns.
    user_column, item_column, time_column: names in a table; raw formats know their own. `time_column` is anything that
        sorts chronologically: numbers (unix time, a position) or ISO 8601 dates. None takes `position`, else
        `timestamp`, else the order of the file.
    items: the file of item attributes; None takes the one beside the interactions, where there is one.
    min_count: iterative k-core; 1 keeps everything; None is 1 for tables and 5 for raw formats.
    on_bad_rows: "error" stops at the first unusable row and names it; "drop" counts it in the report.
    """

    format: Format = "auto"
    user_column: str = "user_id"
    item_column: str = "item_id"
    time_column: str | None = None
    items: Path | None = None
    min_count: int | None = None
    on_bad_rows: BadRows = "error"
