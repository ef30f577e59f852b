"""How to read a data set: the one options object of every reader."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from models.errors import DataError

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


def parse_options(pairs: Sequence[str]) -> ReadOptions:
    """Options from `name=value` words, as the command line takes them.

    Raises:
        DataError: a word is no pair, its name is unknown, or its value is not one the option takes.
    """
    known = [field.name for field in fields(ReadOptions)]
    given = dict(pair.partition("=")[::2] for pair in pairs)
    for pair in pairs:
        name, equals, _ = pair.partition("=")
        if not equals or name not in known:
            raise DataError(f"--read takes NAME=VALUE with a NAME of {', '.join(known)}; got {pair!r}")
    try:
        return TypeAdapter(ReadOptions).validate_strings(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"--read {first['loc'][0]}: {first['msg']}; got {first['input']!r}") from error
