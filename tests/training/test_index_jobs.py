"""Build and update on files: against a Python loop, against the reader of data sets, and against each other."""

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from models.errors import DataError
from models.transitions import HOPS, TransitionIndex
from training.data.dataset import load_dataset
from training.data.options import ReadOptions
from training.index_build import build_index
from training.index_jobs import Resources, build, update

Event = tuple[str, str, int]  # user, item, time
Transitions = dict[tuple[int, str, str], int]  # (hop, source, destination) -> count

# Few users, items and times: ties, repeats and returning users are the common case. "10" sorts before "9" as text.
events_in_any_order = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from(["9", "10", "a", "b"]), st.integers(0, 12)), max_size=40
)


def write(path: Path, events: list[Event]) -> Path:
    users, items, times = zip(*events, strict=True) if events else ((), (), ())
    columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())}
    pq.write_table(pa.table({**columns, "timestamp": pa.array(times, pa.int64())}), path)
    return path


def run_build(path: Path, out: Path, *, all_events: bool = False, options: ReadOptions | None = None) -> Path:
    build(path, options or ReadOptions(), out, Resources(), Console(quiet=True), all_events=all_events)
    return out


def run_update(index: Path, path: Path, out: Path, options: ReadOptions | None = None) -> Path:
    update(path, options or ReadOptions(), index, out, Resources(), Console(quiet=True))
    return out


def transitions(index: Path) -> Transitions:
    """What the files of an index hold, by item ids."""
    loaded, found = TransitionIndex.load(index), {}
    ids = [None, *pq.read_table(index.with_suffix(".items.parquet"))["item_id"].to_pylist()]
    assert len(ids) == loaded.num_items + 1
    for item in range(1, len(ids)):
        row = loaded.row("forward", item)
        for hop, (neighbours, counts) in enumerate(zip(row.neighbours, row.counts, strict=True), start=1):
            for neighbour, count in zip(neighbours.tolist(), counts.tolist(), strict=True):
                found[hop, ids[item], ids[neighbour]] = count
    return found


def tails(index: Path) -> dict[str, list[tuple[str, int]]]:
    """The item and time of each user's last events, oldest first."""
    ids = pq.read_table(index.with_suffix(".items.parquet"))["item_id"].to_pylist()
    found = defaultdict(list)
    for row in sorted(pq.read_table(index.with_suffix(".tails.parquet")).to_pylist(), key=lambda row: row["position"]):
        found[row["user_id"]].append((ids[row["item"] - 1], row["time"]))
    return dict(found)


def sequences_by_loop(events: list[Event]) -> dict[str, list[tuple[str, int]]]:
    """Each user's items and times in order, without repeats."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for user, item, time in sorted(events, key=lambda event: event[2]):
        if found[user][-1:] != [(item, time)]:
            found[user].append((item, time))
    return dict(found)


def count_by_loop(events: list[Event], *, all_events: bool) -> Transitions:
    found: Counter[tuple[int, str, str]] = Counter()
    for sequence in sequences_by_loop(events).values():
        items = [item for item, _ in sequence]
        trained = items if all_events or len(items) < 3 else items[:-2]
        for place, source in enumerate(trained):
            for hop, destination in enumerate(trained[place + 1 : place + 1 + HOPS], start=1):
                found[hop, source, destination] += 1
    return dict(found)


@settings(max_examples=12)
@given(events=events_in_any_order.filter(bool), all_events=st.booleans())
def test_a_build_counts_what_a_loop_counts(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], all_events: bool
) -> None:
    folder = tmp_path_factory.mktemp("build")
    index = run_build(write(folder / "events.parquet", events), folder / "index.npz", all_events=all_events)
    assert transitions(index) == count_by_loop(events, all_events=all_events)
    kept = HOPS if all_events else HOPS + 2
    assert tails(index) == {user: sequence[-kept:] for user, sequence in sequences_by_loop(events).items()}


@settings(max_examples=12)
@given(
    events=events_in_any_order.filter(bool),
    cuts=st.lists(st.integers(0, 12), min_size=1, max_size=4).map(sorted),
    all_events=st.booleans(),
)
def test_updates_equal_a_build_of_everything(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], cuts: list[int], all_events: bool
) -> None:
    """Rounds of new events, in place: of known and new users and items, some of no event at all."""
    folder = tmp_path_factory.mktemp("update")
    first, rounds = min(time for _, _, time in events), zip(cuts, [*cuts[1:], 13], strict=True)
    old = [event for event in events if event[2] <= max(first, cuts[0])]
    index = run_build(write(folder / "old.parquet", old), folder / "index.npz", all_events=all_events)
    for start, end in rounds:
        new = [event for event in events if max(first, start) < event[2] <= end]
        run_update(index, write(folder / "new.parquet", new), index)
    rebuilt = run_build(write(folder / "all.parquet", events), folder / "rebuilt.npz", all_events=all_events)
    assert transitions(index) == transitions(rebuilt) == count_by_loop(events, all_events=all_events)
    assert tails(index) == tails(rebuilt)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def random_events(count: int, users: int, items: int, seed: int = 0) -> list[Event]:
    """Events in the order of time; item ids ascend in the order of first use, so that new ids sort behind old ones."""
    random = np.random.default_rng(seed)
    used: dict[int, str] = {}
    drawn = zip(random.integers(0, users, count), random.zipf(1.3, count) % items, strict=True)
    return [
        (f"user {user}", used.setdefault(item, str(len(used))), int(time) // 3)
        for time, (user, item) in enumerate(drawn)
    ]


def test_an_updated_index_is_a_rebuilt_one_to_the_byte_where_new_ids_sort_last(tmp_path: Path) -> None:
    events = random_events(6000, users=400, items=300)
    index, rounds = tmp_path / "index.npz", (2000, 2001, 3500, 6000)
    run_build(write(tmp_path / "events.parquet", events[:2000]), index)
    sizes = [TransitionIndex.load(index).num_items]
    for start, end in pairwise(rounds):
        run_update(index, write(tmp_path / "events.parquet", events[start:end]), index)
        sizes.append(TransitionIndex.load(index).num_items)
    rebuilt = run_build(write(tmp_path / "events.parquet", events), tmp_path / "rebuilt.npz")
    assert sizes[0] < sizes[-1]
    assert index.read_bytes() == rebuilt.read_bytes()


def test_a_build_has_the_numbers_of_the_data_set(tmp_path: Path) -> None:
    """A catalogue with items that have no event, ids that are numbers, events in no order."""
    events = [(user, str(1000 - int(item)), time) for user, item, time in random_events(3000, users=200, items=300)]
    np.random.default_rng(1).shuffle(events)
    write(tmp_path / "interactions.parquet", events)
    pq.write_table(pa.table({"item_id": [str(number) for number in range(500, 1100)]}), tmp_path / "items.parquet")
    dataset = load_dataset(tmp_path)
    for all_events, sequences in ((False, dataset.training_sequences()), (True, dataset.sequences)):
        index = run_build(tmp_path, tmp_path / "index.npz", all_events=all_events)
        build_index(sequences, dataset.num_items).save(tmp_path / "expected.npz")
        assert index.read_bytes() == (tmp_path / "expected.npz").read_bytes()


def test_without_a_time_column_the_order_of_the_files_counts(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("user_id,item_id\nu,b\nu,a\nu,a\n")
    (tmp_path / "new.csv").write_text("user_id,item_id\nu,c\nu,a\n")
    index = run_build(tmp_path / "old.csv", tmp_path / "index.npz", all_events=True)
    run_update(index, tmp_path / "new.csv", index)
    pairs = [{f"{a}{b}" for hop, a, b in transitions(index) if hop == distance} for distance in (1, 4)]
    assert pairs == [{"ba", "aa", "ac", "ca"}, {"ba"}]


def test_a_filtered_data_set_is_indexed_but_not_updated(tmp_path: Path) -> None:
    path = write(tmp_path / "events.parquet", random_events(2000, users=300, items=300))
    core = ReadOptions(min_count=5)
    dataset = load_dataset(path, core)
    assert dataset.report.kept < 2000
    index = run_build(path, tmp_path / "index.npz")
    with pytest.raises(DataError, match="min_count=5"):
        run_update(index, path, index, core)
    run_build(path, index, options=core)
    build_index(dataset.training_sequences(), dataset.num_items).save(tmp_path / "expected.npz")
    assert index.read_bytes() == (tmp_path / "expected.npz").read_bytes()
    with pytest.raises(DataError, match="from all events, with min_count=1"):
        run_update(index, path, index)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Two users, the last known times of whom are 3 and 9."""
    events = [("u", "a", 1), ("u", "b", 3), ("v", "a", 2), ("v", "c", 9)]
    return run_build(write(tmp_path / "events.parquet", events), tmp_path / "index.npz")


def test_late_events_are_refused_and_change_nothing(index: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    late = write(tmp_path / "late.parquet", [("u", "c", 3), ("v", "b", 8), ("w", "b", 0), ("v", "b", 7)])
    with pytest.raises(DataError, match="2 are, the first of them of user 'v'"):
        run_update(index, late, index)
    late.unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_times_of_another_kind_are_refused(index: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("user_id,item_id,timestamp\nu,c,2020-01-01\n")
    with pytest.raises(DataError, match="whole numbers or timestamps; received fractions or dates"):
        run_update(index, tmp_path / "new.csv", index)


def test_tails_of_another_build_are_refused(index: Path, tmp_path: Path) -> None:
    """As after a crash between the files: the same events would be counted twice."""
    new = write(tmp_path / "new.parquet", [("u", "c", 4), ("u", "d", 5)])
    tails_before = index.with_suffix(".tails.parquet").read_bytes()
    run_update(index, new, index)
    index.with_suffix(".tails.parquet").write_bytes(tails_before)
    with pytest.raises(DataError, match="belongs to another index"):
        run_update(index, new, index)


def test_no_events_make_no_index(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no interaction"):
        run_build(write(tmp_path / "events.parquet", []), tmp_path / "index.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]
