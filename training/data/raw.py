"""Raw public data sets as they are downloaded: Amazon reviews, MovieLens, Steam and Yelp.

A format is recognised by the names of its files. Rows keep the order of the file until they are sorted by time, as the
published preprocessing does. Item dumps repeat rows and lack ids: such rows are counted in the report, never an error.
"""

from collections.abc import Container, Iterable
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from models.errors import DataError
from training.data.events import RawColumns, RowPolicy, clean
from training.data.files import collect, is_table, read_records, read_rows
from training.data.items import ITEMS_SCOPE, Item, unique_items
from training.data.options import Format, ReadOptions
from training.data.raw_formats import FORMATS, RawFormat
from training.data.source import Source
from training.data.tables import FOLDER_FILE

CORE = 5  # the k of the k-core that published results on these sets use


def recognise(path: Path) -> Format:
    """The format of a file or folder, by file names; DataError if none fits.

    A file that could also be an ordinary table (`ratings.csv`, `Beauty.jsonl`) is one, unless the items file of the raw
    format lies beside it.
    """
    if path.is_dir():
        return "table" if (path / FOLDER_FILE).is_file() else _recognise_folder(path)
    for kind, raw in FORMATS.items():
        if _matches(path, raw) and (not is_table(path) or _items_beside(path, raw)):
            return kind
    if is_table(path):
        return "table"
    raise DataError(f"{path}: the file name fits no known format; {_known_names()}, or pass the format")


def open_raw(path: Path, kind: Format, options: ReadOptions) -> Source:
    """Open the interactions file of a raw format, given itself or by its folder."""
    raw = FORMATS[kind]
    file = _interactions_file(path, kind) if path.is_dir() else path
    policy = RowPolicy(options.on_bad_rows)
    ids, times = raw.columns[:2], raw.columns[2:]
    rows = collect(file, raw.read(file, policy), ids, times) if raw.read else read_rows(file, ids, times, policy)
    user, item, time = map(rows.column, raw.columns)
    item_policies = RowPolicy(options.on_bad_rows, scope=ITEMS_SCOPE), RowPolicy("drop", scope=ITEMS_SCOPE)
    return Source(
        name=_stem(file) if "*" in raw.files[0] else kind,
        batches=iter([clean(RawColumns(file, user, item, time, rows.row, raw.columns), policy)]),
        order=raw.columns[2],
        read_items=partial(_read_items, options.items or _items_beside(file, raw), raw, *item_policies),
        lists_catalogue=False,
        min_count=CORE if options.min_count is None else options.min_count,
        policies=(policy, *item_policies),
    )


def _read_items(
    file: Path | None, raw: RawFormat, lines: RowPolicy, rows: RowPolicy, wanted: Container[str] | None
) -> Iterable[Item]:
    """Items of the dump: unreadable lines go to the policy `lines`, repeated and nameless rows to `rows`."""
    if file is None:
        return []
    records = (raw.read_items or read_records)(file, lines)
    return unique_items(file, records, raw.item_column, wanted, rows, raw.attributes)


def _recognise_folder(folder: Path) -> Format:
    for kind, raw in FORMATS.items():
        if any(not is_table(file) or _items_beside(file, raw) for file in _candidates(folder, raw)):
            return kind
    found = sorted(file.name for file in folder.iterdir())
    raise DataError(f"{folder}: no known data set in {found[:20]}; {_known_names()}, or pass the file and its format")


def _interactions_file(folder: Path, kind: Format) -> Path:
    candidates = _candidates(folder, FORMATS[kind])
    if len(candidates) != 1:
        found = [file.name for file in candidates]
        raise DataError(f"{folder}: one {kind} file is needed, found {found or 'none'}: pass the file itself")
    return candidates[0]


def _candidates(folder: Path, raw: RawFormat) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if _matches(file, raw)]


def _matches(file: Path, raw: RawFormat) -> bool:
    """Whether the name is that of an interactions file; the names of items files fit some of the same patterns."""
    items = (pattern.format(stem="*") for pattern in raw.item_files)
    return _fits(file, raw.files) and not _fits(file, items)


def _fits(file: Path, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file.name, pattern) for pattern in patterns)


def _items_beside(file: Path, raw: RawFormat) -> Path | None:
    paths = (file.with_name(pattern.format(stem=_stem(file))) for pattern in raw.item_files)
    return next((path for path in paths if path.is_file()), None)


def _stem(file: Path) -> str:
    """`reviews_Beauty_5.json.gz` -> `Beauty`, the part that an Amazon items file shares."""
    return file.name.split(".")[0].removeprefix("reviews_").removesuffix("_5")


def _known_names() -> str:
    names = ", ".join(f"{kind}: {raw.files[0]}" for kind, raw in FORMATS.items())
    return f"known are {FOLDER_FILE}, tables with named columns, and {names}"
