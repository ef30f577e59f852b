"""The items of a bundle, written and read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.catalogue import Catalogue
from models.errors import BundleError


def test_what_was_saved_is_what_loads(tmp_path: Path) -> None:
    codes = np.array([[0, 0, 0], [1, 2, 3], [255, 0, 4]])
    Catalogue(["b", "a"], codes, pa.table({"title": ["Thing", None]})).save(tmp_path / "items.parquet")
    found = Catalogue.load(tmp_path / "items.parquet")
    assert found.item_ids == ["b", "a"]
    assert found.codes.tolist() == codes.tolist()
    assert [found.attributes(1), found.attributes(2)] == [{"title": "Thing"}, {}]


@pytest.mark.parametrize("codes", [[[1, 2], [3]], [[], []], [[1, 2], None], [[1, None], [2, 3]]])
def test_semantic_ids_of_other_lengths_are_refused(tmp_path: Path, codes: list[list[int]]) -> None:
    columns = {"index": [1, 2], "item_id": ["a", "b"], "codes": pa.array(codes, pa.list_(pa.int32()))}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    with pytest.raises(BundleError, match="a semantic id of one length"):
        Catalogue.load(tmp_path / "items.parquet")


def test_indexes_out_of_order_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"index": [2, 1], "item_id": ["a", "b"], "codes": [[1], [2]]}), tmp_path / "items.parquet")
    with pytest.raises(BundleError, match=r"indexes 1\.\.2 in order"):
        Catalogue.load(tmp_path / "items.parquet")
