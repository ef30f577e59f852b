"""`tandem index build` and `tandem index update` from the command line."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

import tandem.cli
from models.errors import BundleError, DataError
from tests.training.test_index_jobs import Event, count_by_loop, random_events, transitions, write

Run = Callable[..., Result]
EVENTS = random_events(600, users=60, items=40)


@pytest.fixture
def run() -> Run:
    """Runs `tandem index`; errors of Tandem are raised, errors of usage end with status 2."""
    app = tandem.cli.build()
    return lambda *words: CliRunner().invoke(app, ["index", *map(str, words)], catch_exceptions=False)


@pytest.mark.parametrize(("flags", "all_events"), [([], False), (["--all-events"], True)])
def test_a_build_and_an_update(run: Run, tmp_path: Path, flags: list[str], all_events: bool) -> None:
    """Into a new folder, under other column names, and from one index into another."""

    def renamed(name: str, events: list[Event]) -> Path:
        path = write(tmp_path / name, events)
        pq.write_table(pq.read_table(path).rename_columns(["visitor", "item_id", "timestamp"]), path)
        return path

    first, second = tmp_path / "new" / "first.npz", tmp_path / "new" / "second.npz"
    read = "--read=user_column=visitor"
    result = run("build", renamed("old.parquet", EVENTS[:400]), "--out", first, read, "--memory-limit", "0.5", *flags)
    assert result.exit_code == 0
    expected = count_by_loop(EVENTS[:400], all_events=all_events)
    assert transitions(first) == expected
    assert f"first.npz: {len(expected):,} transitions" in result.output.replace("\n", "")
    assert run("update", first, renamed("new.parquet", EVENTS[400:]), "--out", second, read).exit_code == 0
    assert transitions(first) == expected
    assert transitions(second) == count_by_loop(EVENTS, all_events=all_events)


def test_what_cannot_be_read_is_refused(run: Run, tmp_path: Path) -> None:
    events, out = write(tmp_path / "events.parquet", EVENTS), tmp_path / "index.npz"
    with pytest.raises(DataError, match="--read takes NAME=VALUE"):
        run("build", events, "--out", out, "--read", "users=uid")
    with pytest.raises(DataError, match="nowhere"):
        run("build", tmp_path / "nowhere", "--out", out)
    with pytest.raises(BundleError, match="nowhere"):
        run("update", tmp_path / "nowhere.npz", events, "--out", out)
    pq.write_table(pa.table({"user_id": ["u"], "timestamp": [1]}), events)
    with pytest.raises(DataError, match="no columns are called 'item_id'"):
        run("build", events, "--out", out)
    assert [path.name for path in tmp_path.iterdir()] == ["events.parquet"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["build", "events"], "--out"),
        (["build", "events", "--out", "x.npz", "--engine", "hive"], "'hive'"),
        (["build", "events", "--out", "x.npz", "--memory-limit", "0"], "--memory-limit"),
        (["update", "x.npz", "--out", "x.npz"], "{events}"),
    ],
)
def test_wrong_usage_ends_with_status_2(run: Run, words: list[str], named: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert named in result.output
