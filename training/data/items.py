"""Item attributes, brought to one table whatever the source calls or lacks."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa

from training.data.events import MISSING_ITEM, RowPolicy, id_text

ITEMS_SCOPE = "items file: "  # how the report tells dropped rows of the items file from dropped interactions
REPEATED_ROW = "repeated row of an item"


class Item(TypedDict):
    """Attributes of one item as a reader found them; absent values are "", [] and None."""

    item_id: str
    title: str
    text: str
    brand: str
    categories: list[str]
    price: float | None


_OPTIONAL = {"brand": pa.string(), "categories": pa.list_(pa.string()), "price": pa.float64()}
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")


def make_item(item_id: str, source: Mapping[str, Any]) -> Item:
    """Read title, brand, categories, price and text; the text is composed of the others and `description` if absent."""
    title, brand = as_text(source.get("title")), as_text(source.get("brand"))
    categories = as_list(source.get("categories"))
    parts = (title, brand, ", ".join(categories), as_text(source.get("description")))
    return Item(
        item_id=item_id,
        title=title,
        text=as_text(source.get("text")) or ". ".join(part.rstrip(". ") for part in parts if part),
        brand=brand,
        categories=categories,
        price=as_price(source.get("price")),
    )


def unique_items(
    path: Path,
    records: Iterable[tuple[int, Mapping[str, Any]]],
    id_column: str,
    wanted: Container[str] | None,
    policy: RowPolicy,
    attributes: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Iterator[Item]:
    """Items of an items file, the first row of each; `wanted` = None wants all. Other rows go to `policy`.

    attributes: turns a row into what `make_item` reads, where the file has other names for it.
    """
    seen: set[str] = set()
    for row, values in records:
        item_id = id_text(values.get(id_column))
        if item_id is None:
            detail = f"column {id_column!r}: {MISSING_ITEM}, got {values.get(id_column)!r}; the columns are {[*values]}"
            policy.bad(path, row, MISSING_ITEM, detail)
        elif item_id in seen:
            policy.bad(path, row, REPEATED_ROW, f"column {id_column!r}: {REPEATED_ROW}, got {item_id!r} again")
        else:
            seen.add(item_id)
            if wanted is None or item_id in wanted:
                yield make_item(item_id, attributes(values))


def item_table(items: Iterable[Item], item_ids: list[str]) -> pa.Table:
    """Table with one row per id of `item_ids`, in that order; `brand`, `categories`, `price` where any item has them.

    Rows i and index i + 1 belong together. Items without attributes have an empty title and text.
    """
    known = {item["item_id"]: item for item in items}
    rows = [known.get(item_id) or make_item(item_id, {}) for item_id in item_ids]
    columns = {
        "item_id": pa.array(item_ids, pa.string()),
        "title": pa.array([row["title"] for row in rows], pa.string()),
        "text": pa.array([row["text"] for row in rows], pa.string()),
    }
    for name, kind in _OPTIONAL.items():
        values = [row[name] or None for row in rows]  # type: ignore[literal-required]
        if any(value is not None for value in values):
            columns[name] = pa.array(values, kind)
    return pa.table(columns)


def as_text(value: object) -> str:
    """One line of text from a string, a number or a list of them."""
    if isinstance(value, list):
        return " ".join(filter(None, map(as_text, value)))
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    return " ".join(str(value).split())


def as_list(value: object) -> list[str]:
    """A list of names from a list (of lists: the deepest path is the first) or from text such as "A|B"."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    parts = value if isinstance(value, list) else as_text(value).split("|")
    return [name for part in parts if (name := as_text(part))]


def as_price(value: object) -> float | None:
    """A price from a number or from text such as "$1,299.00"; None for anything else, ranges included."""
    match = _PRICE.fullmatch(as_text(value))
    return float(match[1].replace(",", "")) if match else None
