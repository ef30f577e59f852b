"""The items a bundle can recommend: the caller's ids, their semantic ids and their attributes.

`item_id` is always the caller's own string; `index` is the dense integer 1..N, and 0 is padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import BundleError

ATTRIBUTES = ("title", "brand", "categories", "price")


@dataclass(frozen=True)
class Catalogue:
    """Items in index order.

    Attributes:
        item_ids: the caller's ids; the item at position i has index i + 1.
        codes: semantic ids int64 [N + 1, D], codes 0..V-1, row 0 is padding.
        table: one row an item with the attributes known for it.
    """

    item_ids: Sequence[str]
    codes: NDArray[np.int64]
    table: pa.Table

    @property
    def size(self) -> int:
        """N, the number of items."""
        return len(self.item_ids)

    @cached_property
    def _index_of(self) -> dict[str, int]:
        return {item_id: index for index, item_id in enumerate(self.item_ids, start=1)}

    @cached_property
    def _attributes(self) -> list[dict[str, Any]]:
        present = [name for name in ATTRIBUTES if name in self.table.column_names]
        rows: list[dict[str, Any]] = self.table.select(present).to_pylist() if present else [{}] * self.size
        return [{name: value for name, value in row.items() if value not in (None, "", [])} for row in rows]

    def index_of(self, item_id: str) -> int | None:
        """The index of a caller's id, or None when the catalogue has no such item."""
        return self._index_of.get(item_id)

    def item_id(self, index: int) -> str:
        """The caller's id of an index 1..N."""
        return self.item_ids[index - 1]

    def attributes(self, index: int) -> dict[str, Any]:
        """What is known of an item: title, brand, categories, price, each only if present."""
        return self._attributes[index - 1]

    def save(self, path: Path) -> None:
        """Write items.parquet: index, item_id, attributes and codes."""
        columns = {
            "index": pa.array(range(1, self.size + 1), pa.int32()),
            "item_id": pa.array(self.item_ids, pa.string()),
            **{name: self.table[name] for name in ATTRIBUTES if name in self.table.column_names},
            "codes": _lists(self.codes[1:]),
        }
        pq.write_table(pa.table(columns), path, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read what `save` wrote.

        Raises:
            BundleError: the indexes are not 1..N or the semantic ids differ in length.
        """
        table = pq.read_table(path)
        if not np.array_equal(table["index"], np.arange(1, table.num_rows + 1)):
            raise BundleError(f"{path} must list the indexes 1..{table.num_rows} in order; export the bundle again")
        lists = table["codes"].combine_chunks()
        values, lengths = lists.flatten(), np.diff(lists.offsets)
        levels = int(lengths[0]) if len(lengths) else 0
        if not levels or (lengths != levels).any() or values.null_count:
            raise BundleError(f"{path} must give every item a semantic id of one length; export the bundle again")
        codes = np.zeros((table.num_rows + 1, levels), dtype=np.int64)
        codes[1:] = values.to_numpy().reshape(-1, levels)
        return cls(table["item_id"].to_pylist(), codes, table)


def _lists(codes: NDArray[np.int64]) -> pa.ListArray:
    """The rows of `codes` [N, D] as lists of int32."""
    offsets = np.arange(0, codes.size + 1, codes.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes.ravel(), pa.int32()))
