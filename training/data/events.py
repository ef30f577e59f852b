"""The form all readers share: events in file order, cleaned by one set of rules."""

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.errors import DataError
from training.data.options import BadRows

MISSING_USER = "missing user id"
MISSING_ITEM = "missing item id"
BAD_TIME = "unusable time"
REASONS = (MISSING_USER, MISSING_ITEM, BAD_TIME)
BROKEN_LINE = "broken line"
NO_ID = ["", "nan", "NaN"]  # pandas leaves "nan" of a missing id

Times = NDArray[np.int64] | NDArray[np.float64]


@dataclass
class RowPolicy:
    """Decides what a row that cannot be used costs: an error that names it, or one more in `dropped`."""

    on_bad_rows: BadRows
    scope: str = ""  # put before each reason
    dropped: Counter[str] = field(default_factory=Counter)

    def bad(self, path: Path, row: int, reason: str, detail: str, count: int = 1) -> None:
        """Take note of `count` bad rows, the first of them `row` (1-based; the header of a CSV file is row 1)."""
        if self.on_bad_rows == "error":
            raise DataError(f"{path}: row {row}: {detail}; correct it, or pass on_bad_rows='drop' to skip such rows")
        self.count(reason, count)

    @property
    def total(self) -> int:
        """Rows left out so far."""
        return self.dropped.total()

    def count(self, reason: str, count: int = 1) -> None:
        """Take note of rows that are left out whatever the policy."""
        self.dropped[self.scope + reason] += count


@dataclass(frozen=True)
class RawColumns:
    """Columns of an interaction file as read: nothing checked yet. All of one length, in file order."""

    path: Path
    user: pa.Array
    item: pa.Array
    time: pa.Array | None
    row: NDArray[np.int64]  # where each event stands in the file, for messages
    names: tuple[str, str, str]  # what the file calls user, item and time


@dataclass(frozen=True)
class Events:
    """Clean events in file order. E = number of events."""

    users: pa.StringArray  # [E]
    items: pa.StringArray  # [E]
    times: Times | None  # [E] sort keys, never shown; None = file order


def concat(batches: Iterable[Events]) -> Events:
    """Events of one file, put together again; at least one batch."""
    parts = list(batches)
    times = [pa.array(part.times) for part in parts if part.times is not None]
    return Events(
        users=pa.concat_arrays([part.users for part in parts]),
        items=pa.concat_arrays([part.items for part in parts]),
        times=pa.concat_arrays(times).to_numpy() if times else None,
    )


def clean(raw: RawColumns, policy: RowPolicy) -> Events:
    """Turn ids into strings and times into sort keys; rows where that fails go to `policy`."""
    users, items = _ids(raw, raw.user, raw.names[0]), _ids(raw, raw.item, raw.names[1])
    times = None if raw.time is None else _times(raw, raw.time)
    kept = np.ones(len(raw.row), dtype=np.bool_)
    columns = zip((raw.user, raw.item, raw.time), (users, items, times), raw.names, REASONS, strict=True)
    for source, parsed, name, reason in columns:
        if source is None or parsed is None:
            continue
        good = parsed.is_valid().to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(kept & ~good)
        if len(bad):
            value = source[int(bad[0])].as_py()
            policy.bad(raw.path, int(raw.row[bad[0]]), reason, f"column {name!r}: {reason}, got {value!r}", len(bad))
        kept &= good
    mask = pa.array(kept)
    keys = None if times is None else times.filter(mask).to_numpy(zero_copy_only=False)
    return Events(users.filter(mask), items.filter(mask), keys)


def id_text(value: object) -> str | None:
    """String form of one id, by the rule that `clean` has for columns; None where there is no id."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return None if text.strip() in NO_ID else text


def _ids(raw: RawColumns, column: pa.Array, name: str) -> pa.StringArray:
    """String form of an id column; null where there is no id."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not (pa.types.is_integer(column.type) or is_text(column.type)):
        raise DataError(
            f"{raw.path}: column {name!r} is of type {column.type}; ids are strings or integers: cast the column first"
        )
    text = column.cast(pa.string())
    empty = pc.is_in(pc.utf8_trim_whitespace(text), pa.array(NO_ID))
    return pc.if_else(empty, pa.scalar(None, pa.string()), text)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, or nothing at all."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _times(raw: RawColumns, column: pa.Array) -> pa.Array:
    """Numbers that sort like the times in `column` ([E], int64 or float64); null where there is no time."""
    kind = column.type
    if is_text(kind):
        return _parsed_times(column)
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        return column.cast(pa.int64())
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("s")).cast(pa.int64())
    if pa.types.is_floating(kind):
        keys = column.cast(pa.float64())
        return pc.if_else(pc.is_finite(keys), keys, pa.scalar(None, pa.float64()))
    raise DataError(
        f"{raw.path}: column {raw.names[2]!r} is of type {kind}; times are numbers, timestamps, dates or "
        "ISO 8601 text: cast the column first"
    )


def _parsed_times(column: pa.Array) -> pa.Array:
    """Times from text that holds integers, other numbers or ISO 8601 dates: the kind of most rows, the rest is null.

    Integers are kept apart because nanosecond stamps are beyond what float64 tells apart.
    """
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    is_integer = pc.match_substring_regex(text, r"^-?[0-9]{1,18}$")
    integers = pc.if_else(is_integer, text, pa.scalar(None, pa.string())).cast(pa.int64())
    if integers.null_count == 0:
        return integers
    encoded = text.dictionary_encode()
    parsed = (
        pa.array(map(parse, encoded.dictionary.to_pylist()), pa.float64()).take(encoded.indices)
        for parse in (_number, _date)
    )
    return min((integers, *parsed), key=lambda keys: keys.null_count)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return number if isfinite(number := float(text)) else None
    return None


def _date(text: str) -> float | None:
    """Seconds since 1970; dates without an offset from UTC count as UTC."""
    with suppress(ValueError):
        date = datetime.fromisoformat(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return None


def id_order(ids: list[str]) -> list[str]:
    """Sort ids: by value where every one is a plain integer, else as text. The rule behind every dense index."""
    key: Callable[[str], int] | None = int if all(_is_plain_integer(i) for i in ids) else None
    return sorted(ids, key=key)


def _is_plain_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text[0] != "0" or text == "0")
