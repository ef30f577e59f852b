"""The report as a whole, on the tiny bundle: what it holds, what it draws, and that its parts agree with `evaluate`."""

import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import training.cli
from models.bundle import Bundle
from models.errors import DataError
from models.graphs import Graphs
from tests.bundles import ITEMS
from tests.training.test_cli import write
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Dataset, load_dataset
from training.evaluate import evaluate
from training.lists import collect
from training.report.build import Report, build

QUIET = Console(file=io.StringIO())
PNG = b"\x89PNG\r\n\x1a\n"


def tandem(*arguments: object) -> str:
    """Runs an offline command and returns what it prints."""
    app = typer.Typer()
    training.cli.register(app)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def dataset(bundle: Bundle) -> Dataset:
    return tiny_dataset(bundle)


@pytest.fixture(scope="module")
def data(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(dataset, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="module")
def folder(bundle: Bundle, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tandem report` writes."""
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    assert "report.md" in tandem("report", bundle.path, "--data", data, "--out", out)
    return out


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def test_the_page_shows_every_plot_that_is_drawn(folder: Path) -> None:
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (folder / "report.md").read_text())
    drawn = [path.name for path in folder.glob("*.png")]
    assert sorted(shown) == sorted(drawn)
    assert len(drawn) == 2 + 2 * 6
    assert all((folder / name).read_bytes().startswith(PNG) for name in drawn)


def test_the_tables_are_whole(folder: Path, report: Report) -> None:
    page = (folder / "report.md").read_text()
    for lines in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({line.count("|") for line in lines.splitlines()}) == 1
    for part in report.protocols.values():
        for found in part.metrics.values():
            assert f" {found['ndcg@10'].value:.4f} | {found['ndcg@10'].low:.4f} to " in page
        for one in part.categories.values():
            assert f"| {one.n:,} | {one.share:.1%} |" in page


def test_rows_and_groups_are_those_of_evaluate(report: Report, bundle: Bundle, data: Path) -> None:
    expected = evaluate(bundle, load_dataset(data), "test", QUIET)
    for protocol, part in report.protocols.items():
        results = expected.protocols[protocol]
        assert part.metrics == {name: row.metrics for name, row in results.rows.items()}
        assert part.differences == results.ndcg_at_10_differences
        for name in ("sasrec", "tiger", "sid_mlp"):
            for group, found in results.rows[name].groups.items():
                assert part.categories[group].ndcg_at_10[name] == found.ndcg_at_10
                assert part.categories[group].n == found.n


def test_parts_of_a_whole_add_up(report: Report) -> None:
    n = report.statistics.instances
    table = report.prefixes_by_category
    groups = ("memorization", "generalization", "uncategorized")
    for protocol in report.protocols.values():
        prefixes = {length: found.n for length, found in protocol.prefixes.items()}
        assert prefixes == {length: sum(table[group][length] for group in groups) for length in prefixes}
        wholes = [
            list(protocol.prefixes.values()),
            list(protocol.one_hop.values()),
            [protocol.categories[group] for group in groups],
            *protocol.indicators.values(),
        ]
        for parts in wholes:
            assert sum(part.n for part in parts) == n
            for name in ("sasrec", "tiger", "sid_mlp"):
                total = sum(part.n * part.ndcg_at_10[name].value for part in parts if part.n)
                assert total / n == pytest.approx(protocol.metrics[name]["ndcg@10"].value)
        memorized = protocol.categories["memorization"]
        for name, one in protocol.strengths.items():
            assert sum(map(sum, one.n)) == memorized.n
            cells = zip(np.ravel(one.n), [cell for row in one.difference for cell in row], strict=True)
            total = sum(count * cell.value for count, cell in cells if cell)
            means = memorized.ndcg_at_10
            assert total / memorized.n == pytest.approx(means[name].value - means["sasrec"].value)


def test_one_hop_measurements_are_those_of_a_loop(
    report: Report, bundle: Bundle, graphs: Graphs, dataset: Dataset
) -> None:
    instances = dataset.instances("test")
    candidates = []
    for history in instances.histories:
        followed: Counter[int] = Counter()
        for row in (bundle.transitions.row("forward", item) for item in set(history.tolist())):
            followed.update(dict(zip(row.neighbours[0].tolist(), row.counts[0].tolist(), strict=True)))
        candidates.append(set(sorted(followed, key=lambda item, f=followed: (-f[item], item))[:50]))  # type: ignore[misc]
    benefits = [target in found for target, found in zip(instances.targets.tolist(), candidates, strict=True)]
    for protocol, part in report.protocols.items():
        lists = collect(graphs, instances, protocol, QUIET)
        for name, items in (("sasrec", lists.ranked.items), ("tiger", lists.generated["tiger"].items)):
            shares = [np.isin(top, list(found)).mean() for top, found in zip(items[:, :5], candidates, strict=True)]
            assert part.one_hop_ratios[name].value == pytest.approx(np.mean(shares))
        assert set(part.one_hop_ratios) == {"popularity", "sasrec", "tiger", "sid_mlp"}
        assert part.one_hop["MB"].n == sum(benefits)
        assert set(part.one_hop["MB"].ndcg_at_10) == set(part.metrics)


def test_a_report_on_other_items_is_refused(bundle: Bundle, dataset: Dataset) -> None:
    other = Dataset(**{**vars(dataset), "items": pa.table({"item_id": ["X"] * ITEMS})})
    with pytest.raises(DataError, match="their ids differ"):
        build(bundle, other, "test", QUIET)


def test_categorize_counts_memorized_prefixes_of_a_bundle(
    bundle: Bundle, data: Path, tmp_path: Path, report: Report
) -> None:
    """The index of `categorize` is that of its data set, so the report agrees only where that is the bundle's too."""
    tandem("categorize", data, "--bundle", bundle.path, "--json", tmp_path / "with.json")
    tandem("categorize", data, "--json", tmp_path / "without.json")
    found, plain = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("with", "without"))
    table = found.pop("prefixes")
    assert found == plain
    assert list(table) == list(report.prefixes_by_category)
    for group in ("memorization", "generalization", "uncategorized"):
        assert sum(table[group].values()) == found[group]
    assert table["memorization"]["3"] == found["memorization"] > 0
    tandem("demo-data", tmp_path / "demo", "--items", 720, "--users", 50)
    with pytest.raises(DataError, match="their ids differ"):
        tandem("categorize", tmp_path / "demo", "--bundle", bundle.path)
