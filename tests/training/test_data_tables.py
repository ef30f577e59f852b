"""CSV, TSV, JSON lines and Parquet with named columns: what is read, and what is said of bad rows."""

import gzip
import json
import time
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import DataError
from training.data.dataset import Dataset, load_dataset
from training.data.options import ReadOptions

GOOD = "user_id,item_id,timestamp\nu,b,2\nu,a,1\nu,c,3\n"
DROP = ReadOptions(on_bad_rows="drop")


def load_text(tmp_path: Path, text: str, name: str = "events.csv", options: ReadOptions | None = None) -> Dataset:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return load_dataset(path, options)


def sequence(dataset: Dataset) -> list[str]:
    """Item ids of the only user."""
    ids = dataset.items["item_id"].to_pylist()
    (only,) = dataset.sequences
    return [ids[index - 1] for index in only]


def test_csv(tmp_path: Path) -> None:
    data = load_text(tmp_path, GOOD)
    assert (data.name, data.user_ids, sequence(data)) == ("events", ["u"], ["a", "b", "c"])


def test_csv_with_byte_order_mark_quotes_and_blank_lines(tmp_path: Path) -> None:
    data = load_text(tmp_path, '\ufeffuser_id,item_id,timestamp\n\nu,"a, ""b""",1\nu,x,2\nu,y,3\n\n')
    assert sequence(data) == ['a, "b"', "x", "y"]


def test_gzipped_tsv_with_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "log.tsv.gz"
    path.write_bytes(gzip.compress(b"who\twhat\twhen\nu\tb\t2\nu\ta\t1\nu\tc\t3\n"))
    data = load_dataset(path, ReadOptions(user_column="who", item_column="what", time_column="when"))
    assert (data.name, sequence(data)) == ("log", ["a", "b", "c"])


def test_json_lines_take_numbers_and_text(tmp_path: Path) -> None:
    rows = [(1, 10, 2.5), ("1", 9, "1"), (1, "100", 3)]
    lines = [json.dumps({"user_id": user, "item_id": item, "timestamp": t, "note": []}) for user, item, t in rows]
    data = load_text(tmp_path, "\n\n".join(lines), "events.jsonl")
    assert sequence(data) == ["9", "10", "100"]


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(pa.array([3, 1, 2], pa.int64()), id="integers"),
        pytest.param(pa.array([2**60 + 2, 2**60, 2**60 + 1], pa.int64()), id="nanoseconds beyond float64"),
        pytest.param(pa.array([0.3, 0.1, 0.2]), id="floats"),
        pytest.param(pa.array([datetime(2020, 1, 3), datetime(2020, 1, 1), datetime(2020, 1, 2)]), id="timestamps"),
        pytest.param(pa.array([date(2020, 1, 3), date(2020, 1, 1), date(2020, 1, 2)]), id="dates"),
        pytest.param(pa.array(["10", "2", "9"]), id="numbers as text"),
        pytest.param(pa.array(["30000000000000000000", "1", "2"]), id="beyond int64"),
        pytest.param(pa.array(["1e3", "2", "9.5"]), id="fractions as text"),
        pytest.param(pa.array(["2020-10-01", "2020-09-01", "2020-09-30T23:59:59Z"]), id="ISO dates"),
        pytest.param(
            pa.array(["2020-01-01T03:00:00+01:00", "2020-01-01 01:00:00", "2020-01-01T09:30:00+08:00"]), id="offsets"
        ),
    ],
)
def test_kinds_of_time(tmp_path: Path, times: pa.Array) -> None:
    path = tmp_path / "events.parquet"
    users = pa.array(["u"] * 3).dictionary_encode()
    pq.write_table(pa.table({"user_id": users, "item_id": ["last", "first", "mid"], "timestamp": times}), path)
    assert sequence(load_dataset(path)) == ["first", "mid", "last"]


BAD_ROWS = [
    pytest.param("u,x,noon", "row 5: column 'timestamp': unusable time, got 'noon'", "unusable time", id="time"),
    pytest.param("u,x,", "row 5: column 'timestamp': unusable time, got ''", "unusable time", id="no time"),
    pytest.param("u,x,inf", "row 5: column 'timestamp': unusable time, got 'inf'", "unusable time", id="infinite time"),
    pytest.param(",x,4", "row 5: column 'user_id': missing user id, got ''", "missing user id", id="user"),
    pytest.param("u, ,4", "row 5: column 'item_id': missing item id, got ' '", "missing item id", id="item"),
    pytest.param("u,nan,4", "row 5: column 'item_id': missing item id, got 'nan'", "missing item id", id="nan"),
    pytest.param("u,x", "row 5: broken line, 3 columns are expected, got 2", "broken line", id="short"),
    pytest.param("u,x,4,5", "row 5: broken line, 3 columns are expected, got 4", "broken line", id="long"),
]


@pytest.mark.parametrize(("line", "message", "reason"), BAD_ROWS)
def test_bad_csv_rows(tmp_path: Path, line: str, message: str, reason: str) -> None:
    text = f"{GOOD}{line}\nu,d,9\n"
    with pytest.raises(DataError) as caught:
        load_text(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'events.csv'}: {message}")
    assert "on_bad_rows='drop'" in str(caught.value)

    data = load_text(tmp_path, text, options=DROP)
    assert sequence(data) == ["a", "b", "c", "d"]
    assert data.report.dropped == {reason: 1}
    assert (data.report.rows, data.report.kept) == (5, 4)


BAD_LINES = [
    ('{"user_id": "u", "item', "broken line, not an object (Invalid control character", "broken line"),
    ("[1, 2]", "broken line, not an object (a list)", "broken line"),
    ('{"user_id": "u", "item_id": 1.0, "timestamp": 4}', "column 'item_id': missing item id", "missing item id"),
    ('{"user_id": "u", "timestamp": 4}', "column 'item_id': missing item id, got None", "missing item id"),
    ('{"user_id": true, "item_id": "x", "timestamp": 4}', "column 'user_id': missing user id", "missing user id"),
    (
        '{"user_id": "u", "item_id": "x", "timestamp": NaN}',
        "column 'timestamp': unusable time, got 'nan'",
        "unusable time",
    ),
]


@pytest.mark.parametrize(("line", "message", "reason"), BAD_LINES)
def test_bad_json_lines(tmp_path: Path, line: str, message: str, reason: str) -> None:
    good = [json.dumps({"user_id": "u", "item_id": item, "timestamp": t}) for t, item in enumerate("abcd")]
    text = "\n".join([*good[:2], "", line, *good[2:]])  # blank lines count, as in an editor
    with pytest.raises(DataError) as caught:
        load_text(tmp_path, text, "events.jsonl")
    assert str(caught.value).startswith(f"{tmp_path / 'events.jsonl'}: row 4: {message}")

    data = load_text(tmp_path, text, "events.jsonl", DROP)
    assert sequence(data) == ["a", "b", "c", "d"]
    assert data.report.dropped == {reason: 1}


def test_bad_parquet_rows(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    table = {
        "user_id": ["u"] * 5,
        "item_id": ["a", "b", "c", "d", None],
        "timestamp": [1.0, 2.0, 3.0, float("nan"), 5.0],
    }
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=r"events\.parquet: row 5: column 'item_id': missing item id, got None"):
        load_dataset(path)
    data = load_dataset(path, DROP)
    assert sequence(data) == ["a", "b", "c"]
    assert data.report.dropped == {"missing item id": 1, "unusable time": 1}


def test_a_row_bad_twice_counts_once(tmp_path: Path) -> None:
    data = load_text(tmp_path, GOOD + ",,noon\n", options=DROP)
    assert data.report.dropped == {"missing user id": 1}


def test_dates_without_an_offset_are_utc_wherever_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        rows = ["u,b,2020-01-01 05:00", "u,a,2020-01-01T04:00Z", "u,c,2020-01-01T06:00Z"]
        data = load_text(tmp_path, "\n".join(["user_id,item_id,timestamp", *rows]))
    time.tzset()
    assert sequence(data) == ["a", "b", "c"]


def test_one_bad_time_costs_the_others_no_precision(tmp_path: Path) -> None:
    rows = [("last", 2**59 + 2), ("x", "soon"), ("first", 2**59), ("mid", 2**59 + 1)]
    text = "".join(f"u,{item},{time}\n" for item, time in rows)
    data = load_text(tmp_path, "user_id,item_id,timestamp\n" + text, options=DROP)
    assert sequence(data) == ["first", "mid", "last"]


def test_dates_among_numbers_are_bad_rows(tmp_path: Path) -> None:
    data = load_text(tmp_path, GOOD + "u,d,2020-01-01\n", options=DROP)
    assert sequence(data) == ["a", "b", "c"]


def test_times_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"user_id": ["u"], "item_id": ["a"], "timestamp": [[1]]}), path)
    with pytest.raises(DataError, match=r"column 'timestamp' is of type list.*cast the column first"):
        load_dataset(path)


def test_fractional_ids_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"user_id": [1.0, 1.0, float("nan")], "item_id": [1, 2, 3]}), path)
    with pytest.raises(DataError, match="column 'user_id' is of type double; ids are strings or integers"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user,item_id,timestamp\nu,a,1\n", "events.csv"),
        ('{"user": "u", "item_id": "a", "timestamp": 1}', "events.jsonl"),
    ],
)
def test_a_missing_column_lists_the_columns_there_are(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(DataError, match=r"no columns are called 'user_id'.*\['user', 'item_id', 'timestamp'\]"):
        load_text(tmp_path, text, name)


def test_a_named_time_column_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no columns are called 'when'"):
        load_text(tmp_path, GOOD, options=ReadOptions(time_column="when"))


def test_a_doubled_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 columns are called 'item_id'"):
        load_text(tmp_path, "user_id,item_id,item_id\nu,a,b\n")


def test_items_file(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text('item_id,title,brand,categories,price\na,A saw,Acme,Tools|Saws,"$1,299.50"\nz,Unsold,,,n/a\n')
    data = load_text(tmp_path, GOOD, options=ReadOptions(items=items))
    rows = data.items.to_pylist()
    assert [row["item_id"] for row in rows] == ["a", "b", "c", "z"]
    assert rows[0] == {
        "item_id": "a", "title": "A saw", "text": "A saw. Acme. Tools, Saws", "brand": "Acme",
        "categories": ["Tools", "Saws"], "price": 1299.5,
    }  # fmt: skip
    assert rows[3]["price"] is None


def test_bad_item_rows(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"item_id": "a", "title": "A"}\n{"title": "?"}\n{"item_id": "a", "title": "Again"}\n')
    with pytest.raises(
        DataError, match=r"items\.jsonl: row 2: column 'item_id': missing item id, got None.*\['title'\]"
    ):
        load_text(tmp_path, GOOD, options=ReadOptions(items=items))
    data = load_text(tmp_path, GOOD, options=ReadOptions(items=items, on_bad_rows="drop"))
    assert data.items["title"].to_pylist() == ["A", "", ""]
    assert data.report.dropped == {"items file: missing item id": 1, "items file: repeated row of an item": 1}
    assert data.report.rows == data.report.kept == 3

    items.write_text('{"item_id": "a"}\n{"item_id": "a"}\n')
    with pytest.raises(DataError, match=r"row 2: column 'item_id': repeated row of an item, got 'a' again"):
        load_text(tmp_path, GOOD, options=ReadOptions(items=items))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("events.parquet", b"not parquet"),
        ("events.csv", b""),
        ("events.csv", b"user_id,item_id,timestamp\n\xff,a,1\n"),
        ("events.csv.gz", b"not gzip"),
        # Without the time of day, which would name the test differently in each worker.
        ("events.jsonl.gz", gzip.compress(b'{"user_id": 1}\n' * 99, mtime=0)[:-9]),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        load_dataset(path)


def test_absent_and_unknown_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv: .* existing file"):
        load_dataset(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="fits no known format"):
        load_text(tmp_path, "", "events.xlsx")
    with pytest.raises(DataError, match="no known data set in"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        load_text(tmp_path, GOOD, options=ReadOptions(items=tmp_path / "gone.csv"))


def test_a_parquet_file_read_in_many_parts_is_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of three rows: order, and the row that an error names, go by the whole file."""
    path = tmp_path / "events.parquet"
    users = ["u", "v", "u", "u", "v", "v", "u", "v", ""]
    pq.write_table(pa.table({"user_id": users, "item_id": range(9), "timestamp": [9, 8, 7, 6, 5, 4, 3, 2, 1]}), path)
    whole = load_dataset(path, DROP)
    monkeypatch.setattr("training.data.files.BATCH", 3)
    parts = load_dataset(path, DROP)
    assert (
        [s.tolist() for s in parts.sequences] == [s.tolist() for s in whole.sequences] == [[7, 4, 3, 1], [8, 6, 5, 2]]
    )
    assert parts.report == whole.report
    with pytest.raises(DataError, match="row 9: column 'user_id': missing user id"):
        load_dataset(path)
