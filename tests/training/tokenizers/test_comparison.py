"""`tandem tokenizer compare` on a small shop: its files, its numbers, and what it says where a way is closed."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

import training.tokenizer_cli
from tests.training.tokenizers.embeddings import DIMENSIONS, ITEMS, SIZE
from training.data.demo import write_demo
from training.tokenizers import registry
from training.tokenizers.comparison import Comparison, Resolved, compare, resolve
from training.tokenizers.comparison_page import draw, markdown, table
from training.tokenizers.interface import Tokenizer
from training.tokenizers.quality import LevelReport, report


@pytest.fixture(scope="module")
def found(vectors: np.ndarray, options: registry.TokenizerOptions) -> Comparison:
    titles = [f"thing {row}" for row in range(ITEMS)]
    return compare("shop", "invented", vectors, titles, options, Progress(disable=True))


def test_every_tokenizer_is_measured(
    found: Comparison, tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray
) -> None:
    assert [candidate.name for candidate in found.candidates] == list(registry.NAMES)
    for candidate in found.candidates:
        tokenizer = tokenizers[candidate.name]
        codes = tokenizer.encode(vectors)
        assert candidate.codes == report(tokenizer, codes, vectors)
        assert candidate.overlap == {1: pytest.approx(1 / 3), 2: pytest.approx(1 / 3)}
        assert candidate.collisions == resolve(tokenizer, vectors, codes, SIZE)


def test_ways_that_are_open_are_measured(tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray) -> None:
    """Four items on one code: a digit counts them, and reassignment leaves one of them where it is."""
    tokenizer, same = tokenizers["rkmeans"], vectors[:1] + 1e-3 * np.eye(4, DIMENSIONS, dtype=np.float32)
    codes = tokenizer.encode(same)
    assert len(np.unique(codes, axis=0)) == 1
    ways = resolve(tokenizer, same, codes, 16)
    digit, reassign = ways["digit"], ways["reassign"]
    assert isinstance(digit, Resolved)
    assert isinstance(reassign, Resolved)
    assert (digit.moved, digit.last_level) == (0, LevelReport(4, 4 / 16, 2.0))
    assert (reassign.moved, reassign.last_level) == (3 / 4, LevelReport(3, 4 / SIZE, 2.0))
    assert reassign.reconstruction_error > digit.reconstruction_error


def test_ways_that_are_closed_say_why(
    found: Comparison, tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray
) -> None:
    """One more equal item than a digit or a level can tell apart."""
    tokenizer, same = tokenizers["rkmeans"], np.repeat(vectors[:1], SIZE + 1, axis=0)
    ways = resolve(tokenizer, same, tokenizer.encode(same), SIZE)
    assert ways.keys() == {"digit", "reassign"}
    for way in ways.values():
        assert isinstance(way, str)
        assert f"at most {SIZE} items may share" in way
    closed = found.candidates[0].model_copy(update={"collisions": ways})
    page = markdown(found.model_copy(update={"candidates": [closed]}), "picture.png")
    assert "| impossible |" in page
    assert str(ways["reassign"]) in page


def test_files_of_a_comparison(tmp_path: Path) -> None:
    write_demo(tmp_path / "data", items=720, users=50)
    app = typer.Typer()
    training.tokenizer_cli.register(app)
    arguments = ["--embedder", "tfidf", "--codebooks", "2", "--size", "64", "--epochs", "2"]
    files = ["--out", tmp_path / "out", "--json", tmp_path / "found.json"]
    run = ["tokenizer", "compare", tmp_path / "data", *arguments, *files]
    result = CliRunner().invoke(app, list(map(str, run)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "found.json").read_text()
    assert text == (tmp_path / "out" / "tokenizers.json").read_text()
    assert "seconds" not in text  # a second run writes the same file
    first = json.loads(text)["candidates"][0]
    assert first["codes"]["items"] == 720
    assert len(first["codes"]["levels"]) == 2
    page = (tmp_path / "out" / "tokenizers.md").read_text()
    for name in registry.NAMES:
        assert f"\n| {name} | " in page
    assert "](tokenizers.png)" in page
    assert (tmp_path / "out" / "tokenizers.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_shows_what_was_measured(found: Comparison, tmp_path: Path) -> None:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(table(found))
    text = console.export_text()
    for candidate in found.candidates:
        line = next(line for line in text.splitlines() if f" {candidate.name} " in line)
        assert f"{candidate.codes.collision_rate:.1%}" in line
        assert f"{candidate.overlap[1]:.3f}" in line
        assert f"{candidate.seconds:.1f}" in line
        reassigned = candidate.collisions["reassign"]
        assert (f"{reassigned.moved:.1%}" if isinstance(reassigned, Resolved) else "impossible") in line
    draw(found, tmp_path / "found.png")
