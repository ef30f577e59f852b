"""Order, indexes, catalogue, splits and the report of `load_dataset`."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DataError
from training.data.dataset import Dataset, load_dataset
from training.data.options import ReadOptions

Event = tuple[object, object, int]


def write_events(folder: Path, events: Iterable[Event], time: str | None = "timestamp") -> Path:
    users, items, times = zip(*events, strict=True)
    columns = {"user_id": users, "item_id": items} | ({time: times} if time else {})
    folder.mkdir(exist_ok=True)
    pq.write_table(
        pa.table({name: pa.array(values) for name, values in columns.items()}), folder / "interactions.parquet"
    )
    return folder


def named(dataset: Dataset) -> dict[str, list[str]]:
    """Sequences by user id, as item ids."""
    ids = dataset.items["item_id"].to_pylist()
    return {
        user: [ids[index - 1] for index in sequence]
        for user, sequence in zip(dataset.user_ids, dataset.sequences, strict=True)
    }


def test_integer_ids_sort_by_value_and_text_ids_as_text(tmp_path: Path) -> None:
    numbers = load_dataset(write_events(tmp_path / "n", [(1, item, t) for t, item in enumerate([10, 9, 100])]))
    texts = load_dataset(write_events(tmp_path / "t", [(1, item, t) for t, item in enumerate(["b10", "b9", "010"])]))
    assert numbers.items["item_id"].to_pylist() == ["9", "10", "100"]
    assert texts.items["item_id"].to_pylist() == ["010", "b10", "b9"]
    assert [s.tolist() for s in numbers.sequences] == [[2, 1, 3]]
    assert numbers.sequences[0].dtype == np.int32


def test_ids_with_a_leading_zero_are_text(tmp_path: Path) -> None:
    data = load_dataset(write_events(tmp_path, [("u", item, t) for t, item in enumerate(["10", "9", "09"])]))
    assert data.items["item_id"].to_pylist() == ["09", "10", "9"]


def test_events_are_sorted_by_time_and_ties_keep_the_order_of_the_file(tmp_path: Path) -> None:
    events = [("u", "c", 5), ("v", "a", 1), ("u", "b", 3), ("u", "a", 5), ("v", "c", 1), ("v", "b", 0), ("u", "d", 5)]
    data = load_dataset(write_events(tmp_path, events))
    assert named(data) == {"u": ["b", "c", "a", "d"], "v": ["b", "a", "c"]}
    assert (
        data.report.tie_rule
        == "events of a user are sorted by 'timestamp'; equal values keep the order of the file (stable sort)"
    )


def test_position_is_preferred_to_timestamp(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["u"] * 3, "item_id": ["a", "b", "c"], "timestamp": [1, 2, 3], "position": [2, 1, 0]})
    pq.write_table(table, tmp_path / "interactions.parquet")
    assert named(load_dataset(tmp_path)) == {"u": ["c", "b", "a"]}
    assert named(load_dataset(tmp_path, ReadOptions(time_column="timestamp"))) == {"u": ["a", "b", "c"]}


def test_without_a_time_column_the_file_order_counts_and_is_reported(tmp_path: Path) -> None:
    events = [("u", "c", 0), ("u", "a", 0), ("u", "a", 0), ("u", "b", 0)]
    data = load_dataset(write_events(tmp_path, events, time=None))
    assert named(data) == {"u": ["c", "a", "a", "b"]}  # nothing says that the second "a" is a repeat
    assert data.report.tie_rule == "no time column: events of a user keep the order of the file"


def test_only_neighbours_with_equal_item_and_time_are_repeats(tmp_path: Path) -> None:
    events = [("u", "a", 1), ("u", "a", 1), ("u", "b", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 2)]
    data = load_dataset(write_events(tmp_path, events))
    assert named(data) == {"u": ["a", "b", "a", "a"], "v": ["a"]}
    assert data.report.dropped == {"repeat of the event before (same user, item and time)": 1}
    assert (data.report.rows, data.report.kept) == (6, 5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 5)), min_size=1, max_size=40))
def test_matches_plain_python(tmp_path: Path, events: list[tuple[int, int, int]]) -> None:
    expected: dict[str, list[str]] = {}
    for user in sorted({user for user, _, _ in events}):
        own = sorted((e for e in events if e[0] == user), key=lambda e: e[2])
        fresh = [e for before, e in zip([None, *own], own, strict=False) if e != before]
        expected[str(user)] = [str(item) for _, item, _ in fresh]
    if max(map(len, expected.values())) >= 3:
        assert named(load_dataset(write_events(tmp_path, events))) == expected


def test_leave_last_out(tmp_path: Path) -> None:
    events = (
        [("long", i, i) for i in range(1, 6)] + [("three", i, i) for i in (2, 3, 4)] + [("two", i, i) for i in (1, 5)]
    )
    data = load_dataset(write_events(tmp_path, events))
    assert [s.tolist() for s in data.training_sequences()] == [[1, 2, 3], [2], [1, 5]]
    valid, test = data.instances("valid"), data.instances("test")
    assert valid.users.tolist() == test.users.tolist() == [0, 1]
    assert [h.tolist() for h in valid.histories] == [[1, 2, 3], [2]]
    assert valid.targets.tolist() == [4, 3]
    assert [h.tolist() for h in test.histories] == [[1, 2, 3, 4], [2, 3]]
    assert test.targets.tolist() == [5, 4]


def test_catalogue_joins_attributes_and_keeps_items_without_events(tmp_path: Path) -> None:
    write_events(tmp_path, [("u", item, item) for item in (1, 2, 4)])
    items = pa.table(
        {
            "item_id": pa.array([3, 1, 2], pa.int32()),
            "title": ["Three", "One", None],
            "brand": ["Acme", None, None],
            "categories": [["Tools", "Saws"], None, []],
            "price": [3.5, None, None],
            "text": ["All about three", None, None],
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    data = load_dataset(tmp_path)
    assert data.num_items == 4
    assert {name: data.items[name].to_pylist() for name in data.items.column_names} == {
        "item_id": ["1", "2", "3", "4"],
        "title": ["One", "", "Three", ""],
        "text": ["One", "", "All about three", ""],
        "brand": [None, None, "Acme", None],
        "categories": [None, None, ["Tools", "Saws"], None],
        "price": [None, None, 3.5, None],
    }
    assert data.report.notes == ("2 of 4 items have no text",)


def test_min_count_filters_a_table_and_its_catalogue(tmp_path: Path) -> None:
    events = [(user, item, item) for user in (1, 2, 3) for item in (1, 2, 3)] + [(4, 1, 1), (4, 9, 9)]
    write_events(tmp_path, events)
    pq.write_table(pa.table({"item_id": [1, 2, 3, 9, 50]}), tmp_path / "items.parquet")
    assert load_dataset(tmp_path).num_items == 5
    data = load_dataset(tmp_path, ReadOptions(min_count=3))
    assert data.items["item_id"].to_pylist() == ["1", "2", "3"]
    assert data.user_ids == ["1", "2", "3"]
    assert data.report.dropped == {"outside the 3-core": 2}


def test_text_is_composed_where_the_source_has_none(tmp_path: Path) -> None:
    write_events(tmp_path, [("u", "a", t) for t in range(3)])
    items = {
        "item_id": ["a"],
        "title": ["A saw."],
        "brand": ["Acme"],
        "categories": [["Tools", "Saws"]],
        "description": ["Cuts."],
    }
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    assert load_dataset(tmp_path).items["text"].to_pylist() == ["A saw. Acme. Tools, Saws. Cuts"]


def test_too_short_and_empty_data_say_the_way_out(tmp_path: Path) -> None:
    folder = write_events(tmp_path, [("u", "a", 1), ("u", "b", 2), ("v", "a", 1)])
    with pytest.raises(DataError, match=r"no user has 3 events \(the longest sequence has 2\).*bring more history"):
        load_dataset(folder)
    with pytest.raises(DataError, match=r"no interaction is left .*'outside the 5-core': 3.*lower min_count"):
        load_dataset(folder, ReadOptions(min_count=5))
    pq.write_table(
        pa.table({"user_id": pa.array([], pa.string()), "item_id": pa.array([], pa.string())}),
        folder / "interactions.parquet",
    )
    with pytest.raises(DataError, match="none, the file is empty"):
        load_dataset(folder)
