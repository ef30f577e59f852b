"""Files as rows: CSV, TSV, Parquet, JSON lines, Python-literal lines and separated text, plain or gzipped."""

import ast
import csv
import gzip
import io
import json
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import DataError
from training.data.events import BROKEN_LINE, RowPolicy, id_text, is_text

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
BATCH = 1 << 16  # rows held at a time

Record = tuple[int, dict[str, Any]]  # row number (1-based) and values by column


@dataclass(frozen=True)
class Rows:
    """Some columns of a file, in file order, and where each row stands in it (1-based; blank CSV lines not counted)."""

    path: Path
    table: pa.Table
    row: NDArray[np.int64]
    columns: list[str]  # of the whole file

    def column(self, name: str) -> pa.Array:
        """The column called `name`; DataError, with the columns there are, where there is not exactly one."""
        found = self.columns.count(name)
        if found != 1:
            raise DataError(
                f"{self.path}: {found or 'no'} columns are called {name!r}, exactly one is needed; "
                f"the columns are {self.columns}: rename one, or name the column in the read options"
            )
        return self.table[name].combine_chunks()


def is_table(path: Path) -> bool:
    """Whether `read_rows` and `read_records` can read the file, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def read_rows(path: Path, ids: Sequence[str], times: Sequence[str], policy: RowPolicy) -> Rows:
    """Read the columns `ids` and `times` of a table, as far as it has them; text formats give strings."""
    if _is_json_lines(path):
        return collect(path, json_records(path, policy), ids, times)
    table, columns, first_row = _read_table(path, policy, {*ids, *times})
    return _numbered(path, table, columns, first_row)


def stream_rows(path: Path, ids: Sequence[str], times: Sequence[str], policy: RowPolicy) -> Iterator[Rows]:
    """`read_rows` in parts, at least one, so that a large Parquet file is never in memory as a whole.

    Other files come in one part, and so do times in text: their kind is decided over the whole column.
    """
    schema = _parquet_schema(path)
    if schema is None or any(is_text(field.type) for field in schema if field.name in times):
        yield read_rows(path, ids, times, policy)
        return
    chosen, row = _chosen(schema.names, {*ids, *times}), 1
    yield _numbered(path, schema.empty_table(), schema.names, row)
    with _readable(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, columns=chosen):
            yield _numbered(path, pa.Table.from_batches([batch]), schema.names, row)
            row += batch.num_rows


def read_records(path: Path, policy: RowPolicy) -> Iterator[Record]:
    """Read all columns of a table, row by row."""
    if _is_json_lines(path):
        yield from json_records(path, policy)
        return
    table, _, row = _read_table(path, policy)
    for batch in table.to_batches(max_chunksize=BATCH):
        yield from enumerate(batch.to_pylist(), start=row)
        row += batch.num_rows


def collect(path: Path, records: Iterable[Record], ids: Sequence[str], times: Sequence[str]) -> Rows:
    """Gather columns of the records as strings; null where a value cannot be an id or a time."""
    parsers = dict.fromkeys(ids, id_text) | dict.fromkeys(times, _time_text)
    rows: list[int] = []
    columns: dict[str, None] = {}
    tables = [pa.table({name: pa.array([], pa.string()) for name in parsers})]
    remaining = iter(records)
    while batch := list(islice(remaining, BATCH)):
        rows.extend(row for row, _ in batch)
        columns.update(dict.fromkeys(name for _, values in batch for name in values))
        texts = {name: [parse(values.get(name)) for _, values in batch] for name, parse in parsers.items()}
        tables.append(pa.table({name: pa.array(column, pa.string()) for name, column in texts.items()}))
    return Rows(path, pa.concat_tables(tables), np.array(rows, dtype=np.int64), list(columns))


def json_records(path: Path, policy: RowPolicy, *, literals: bool = False) -> Iterator[Record]:
    """Parse one JSON object a line; with `literals` also Python dict literals, as some public dumps are written."""
    for row, line in _lines(path):
        try:
            values = _parse(line, literals)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            policy.bad(path, row, BROKEN_LINE, f"{BROKEN_LINE}, not an object ({error})")
        else:
            yield row, values


def split_records(path: Path, policy: RowPolicy, separator: str, names: Sequence[str]) -> Iterator[Record]:
    """Split lines without header into the columns `names`."""
    for row, line in _lines(path):
        parts = _decoded(line).rstrip("\r\n").split(separator)
        if len(parts) == len(names):
            yield row, dict(zip(names, parts, strict=True))
        else:
            policy.bad(path, row, BROKEN_LINE, f"{BROKEN_LINE}, {len(names)} columns are expected, got {len(parts)}")


def _decoded(line: bytes) -> str:
    """UTF-8 text, or latin-1 where it is not: MovieLens changed from one to the other between its releases."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _is_json_lines(path: Path) -> bool:
    return ".jsonl" in path.suffixes[-2:] or ".ndjson" in path.suffixes[-2:]


def _parse(line: bytes, literals: bool) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        if not literals:
            raise
        values = ast.literal_eval(line.decode().strip())
    if not isinstance(values, dict):
        raise ValueError(f"a {type(values).__name__}")
    return values


def _time_text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered as an editor numbers them."""
    try:
        with _open(path) as file:
            for row, line in enumerate(file, start=1):
                if line.strip():
                    yield row, line
    except (OSError, EOFError) as error:  # gzip reports a truncated file as EOFError
        raise DataError(f"{path}: cannot be read ({error}); check the path, or download the file again") from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read_table(path: Path, policy: RowPolicy, names: Container[str] | None = None) -> tuple[pa.Table, list[str], int]:
    """Columns `names` (None: all) of a Parquet or CSV file, the names of all there are, and the first row's number."""
    with _readable(path):
        schema = _parquet_schema(path)
        if schema is None:
            return *_read_csv(path, policy, names), 2
        return pq.read_table(path, columns=_chosen(schema.names, names)), schema.names, 1


def _parquet_schema(path: Path) -> pa.Schema | None:
    """The columns of a Parquet file; None for any other file."""
    if path.suffix != ".parquet":
        return None
    with _readable(path):
        return pq.read_schema(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Arrow raises about a file into a DataError."""
    try:
        yield
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path and that the file is complete") from error


def _numbered(path: Path, table: pa.Table, columns: list[str], first_row: int) -> Rows:
    return Rows(path, table, np.arange(first_row, first_row + table.num_rows, dtype=np.int64), columns)


def _read_csv(path: Path, policy: RowPolicy, names: Container[str] | None) -> tuple[pa.Table, list[str]]:
    """Columns as strings: what is a number and what is an id is decided later, by one rule for all formats."""
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    bad: list[Any] = []

    def skip(invalid: Any) -> str:
        bad.append(invalid)  # raising here would be swallowed by Arrow
        return "skip"

    with io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="") as text:
        columns = next(csv.reader(text, delimiter=delimiter), [])
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # Arrow numbers bad rows only when it reads in order
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()), include_columns=_chosen(columns, names)
        ),
    )
    for row in bad:
        found = f"{BROKEN_LINE}, {row.expected_columns} columns are expected, got {row.actual_columns}"
        policy.bad(path, row.number, BROKEN_LINE, found)
    return table, columns


def _chosen(columns: list[str], names: Container[str] | None) -> list[str]:
    return [name for name in columns if names is None or name in names]
