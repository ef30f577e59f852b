"""The committed result pages are what the committed results give."""

from pathlib import Path

import pytest

from training.comparison import comparison
from training.evaluate import Results
from training.table import markdown, plot

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "quality").glob("*.json"))
PAGES = ROOT / "docs" / "results"


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_page_is_made_from_its_json(path: Path) -> None:
    assert (PAGES / f"{path.stem}.md").read_text() == markdown(Results.model_validate_json(path.read_text()))


def test_the_readme_compares_the_data_sets() -> None:
    results = [Results.model_validate_json(path.read_text()) for path in RESULTS]
    assert comparison(results, "B") in (ROOT / "README.md").read_text()


def test_a_comparison_says_what_is_gained() -> None:
    path = ROOT / "benchmarks" / "quality" / "scientific.json"
    results = Results.model_validate_json(path.read_text())
    rows = comparison([results], "B").splitlines()[2:]
    part = results.protocols["B"]
    assert len(rows) == len(results.ensembles)
    for name, row in zip(results.ensembles, rows, strict=True):
        names = (f"candidates_{name}", f"fixed_{name}", "sasrec")
        serves, fixed, alone = (part.rows[key].metrics["ndcg@10"].value for key in names)
        assert f"{serves / alone - 1:+.1%} / {serves / fixed - 1:+.1%}" in row
        assert f"{(serves - fixed) * 1e4:+.0f} [" in row


def test_chart_is_a_picture(tmp_path: Path) -> None:
    plot(Results.model_validate_json(RESULTS[0].read_text()), tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
