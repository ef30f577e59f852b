"""Interactions and items as tables with named columns: Parquet, CSV, TSV or JSON lines, or a folder with both."""

from collections.abc import Container, Iterable
from functools import partial
from itertools import chain
from pathlib import Path

from models.errors import DataError
from training.data.events import RawColumns, RowPolicy, clean
from training.data.files import SUFFIXES, Rows, is_table, read_records, stream_rows
from training.data.items import ITEMS_SCOPE, Item, unique_items
from training.data.options import ReadOptions
from training.data.source import Source

TIME_COLUMNS = ("position", "timestamp")  # the first one there is, unless the options name another
FOLDER_FILE = "interactions.parquet"


def open_table(path: Path, options: ReadOptions) -> Source:
    """Open an interactions file with named columns, or a folder that holds `interactions.parquet`."""
    file = path / FOLDER_FILE if path.is_dir() else path
    if not is_table(file) or not file.is_file():
        raise DataError(f"{file}: a table is an existing file that ends in one of {', '.join(SUFFIXES)}")
    policy = RowPolicy(options.on_bad_rows)
    times = (options.time_column,) if options.time_column else TIME_COLUMNS
    parts = stream_rows(file, (options.user_column, options.item_column), times, policy)
    first = next(parts)
    order = next((name for name in times if name in first.columns), options.time_column)
    item_policy = RowPolicy(options.on_bad_rows, scope=ITEMS_SCOPE)
    return Source(
        name=path.name.split(".")[0],
        batches=(clean(_raw_columns(rows, options, order), policy) for rows in chain([first], parts)),
        order=order,
        read_items=partial(_read_items, _items_file(path, options), options, item_policy),
        lists_catalogue=True,
        min_count=options.min_count or 1,
        policies=(policy, item_policy),
    )


def _raw_columns(rows: Rows, options: ReadOptions, time: str | None) -> RawColumns:
    return RawColumns(
        path=rows.path,
        user=rows.column(options.user_column),
        item=rows.column(options.item_column),
        time=rows.column(time) if time else None,
        row=rows.row,
        names=(options.user_column, options.item_column, time or ""),
    )


def _items_file(path: Path, options: ReadOptions) -> Path | None:
    """The items file named, or `items.parquet` of the folder where it has one."""
    beside = path / "items.parquet"
    return options.items or (beside if beside.is_file() else None)


def _read_items(
    file: Path | None, options: ReadOptions, policy: RowPolicy, wanted: Container[str] | None
) -> Iterable[Item]:
    if file is None:
        return []
    return unique_items(file, read_records(file, policy), options.item_column, wanted, policy)
