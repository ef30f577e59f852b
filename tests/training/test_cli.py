"""The offline commands: their files, their numbers, and how they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

import training.cli
from models.bundle import Bundle
from models.errors import BundleError, DataError
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Dataset, load_dataset
from training.evaluate import evaluate

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Runs a command; errors of Tandem are raised, errors of usage end with status 2."""
    app = typer.Typer()
    training.cli.register(app)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def write(dataset: Dataset, folder: Path) -> Path:
    """The data set as the two files of a table."""
    events = [
        {"user_id": user, "item_id": f"T{item - 1:03d}", "position": position}
        for user, sequence in zip(dataset.user_ids, dataset.sequences, strict=True)
        for position, item in enumerate(sequence.tolist())
    ]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(events), folder / "interactions.parquet")
    pq.write_table(dataset.items, folder / "items.parquet")
    return folder


@pytest.fixture(scope="module")
def data(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set over the items of the tiny bundle."""
    return write(tiny_dataset(bundle), tmp_path_factory.mktemp("data") / "tiny")


def test_all_commands_are_registered(run: Run) -> None:
    text = run("--help").output
    for command in ("train", "evaluate", "categorize", "demo-data"):
        assert command in text
        assert run(command, "--help").exit_code == 0


def test_demo_data_is_written_as_asked(run: Run, tmp_path: Path) -> None:
    result = run("demo-data", tmp_path / "demo", "--items", 720, "--users", 50, "--seed", 4)
    assert result.exit_code == 0
    assert "wrote 720 items and 50 users" in result.output
    demo = load_dataset(tmp_path / "demo")
    assert (demo.num_items, len(demo.user_ids)) == (720, 50)
    run("demo-data", tmp_path / "again", "--items", 720, "--users", 50, "--seed", 4)
    run("demo-data", tmp_path / "other", "--items", 720, "--users", 50, "--seed", 5)
    events = [(tmp_path / name / "interactions.parquet").read_bytes() for name in ("demo", "again", "other")]
    assert events[0] == events[1] != events[2]


def test_too_few_demo_items_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 720 items"):
        run("demo-data", tmp_path, "--items", 10)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_categorize_counts_what_a_loop_counts(run: Run, data: Path, tmp_path: Path, split: str) -> None:
    report = tmp_path / "new" / "folder" / "counts.json"
    result = run("categorize", data, "--split", split, "--json", report)
    counts = json.loads(report.read_text())
    dataset = load_dataset(data)
    pairs = {pair for s in dataset.training_sequences() for pair in zip(s[:-1].tolist(), s[1:].tolist(), strict=True)}
    end = -1 if split == "test" else -2
    tested = [s.tolist() for s in dataset.sequences if len(s) >= 3]
    memorized = sum((s[end - 1], s[end]) in pairs for s in tested)
    assert counts["n"] == len(tested) > memorized > 0
    assert counts["memorization"] == memorized
    assert counts["memorization"] + counts["generalization"] + counts["uncategorized"] == counts["n"]
    line = next(line for line in result.output.splitlines() if line.split()[:1] == ["memorization"])
    assert line.split()[1:] == [str(memorized), f"{memorized / len(tested):.2%}"]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_evaluate_writes_what_it_measures(run: Run, data: Path, bundle: Bundle, tmp_path: Path, split: str) -> None:
    report = tmp_path / "results.json"
    result = run("evaluate", bundle.path, "--data", data, "--split", split, "--json", report)
    assert result.exit_code == 0
    expected = evaluate(bundle, load_dataset(data), split, Console(quiet=True))  # type: ignore[arg-type]
    assert json.loads(report.read_text()) == json.loads(expected.model_dump_json())
    for protocol in expected.protocols:
        assert f"protocol {protocol}" in result.output


def test_a_bundle_is_not_evaluated_on_other_items(run: Run, bundle: Bundle, tmp_path: Path) -> None:
    run("demo-data", tmp_path / "demo", "--items", 720, "--users", 50)
    with pytest.raises(DataError, match="tiny@1 has 60 items, demo has 720"):
        run("evaluate", bundle.path, "--data", tmp_path / "demo")


def test_read_options_reach_the_reader(run: Run, data: Path, tmp_path: Path) -> None:
    """The same events under another column name, and cut by a k-core."""
    events = pq.read_table(data / "interactions.parquet").rename_columns(["uid", "item_id", "position"])
    pq.write_table(events, tmp_path / "events.parquet")
    counts = []
    for number, words in enumerate([["user_column=uid"], ["user_column=uid", "min_count=5"]]):
        report = tmp_path / f"{number}.json"
        result = run("categorize", tmp_path / "events.parquet", "--json", report, *(f"--read={word}" for word in words))
        assert result.exit_code == 0
        counts.append(json.loads(report.read_text())["n"])
    tested = [s for s in load_dataset(data).sequences if len(s) >= 3]
    assert counts[0] == len(tested) > counts[1] > 0
    with pytest.raises(DataError, match="--read takes NAME=VALUE"):
        run("categorize", data, "--read", "users=uid")


def test_what_is_not_there_is_refused(run: Run, data: Path, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        run("evaluate", tmp_path, "--data", data)
    for command in (["evaluate", bundle.path, "--data"], ["categorize"]):
        with pytest.raises(DataError, match="nowhere"):
            run(*command, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "data"], "--name"),
        (["train", "data", "--name", "x", "--preset", "huge"], "'huge'"),
        (["evaluate", "bundle"], "--data"),
        (["categorize", "data", "--split", "train"], "'train'"),
    ],
)
def test_wrong_usage_ends_with_status_2(run: Run, arguments: list[str], named: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert named in result.output
