"""The codebook sweep end to end at tiny size: it runs, it resumes, and its runs share one budget."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.data.dataset import load_dataset
from training.data.demo import write_demo
from training.presets import PRESETS
from training.recipes.codebook_sweep import Sweep, draw, equal_budget, print_sweep, sweep

SIZES = (64, 128)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


def run(folder: Path, console: Console) -> Sweep:
    write_demo(folder / "data", items=720, users=300, seed=0)
    dataset = load_dataset(folder / "data")
    vectors = np.random.default_rng(0).normal(size=(dataset.num_items, 8)).astype(np.float32)
    tiny = PRESETS["tiny"]
    brief = replace(tiny, fit_tiger=replace(tiny.fit_tiger, epochs=1))
    return sweep(dataset, vectors, brief, SIZES, folder / "work", console)


@pytest.fixture(scope="module")
def found(folder: Path) -> Sweep:
    return run(folder, Console(file=io.StringIO()))


def test_every_size_has_a_point_whose_parts_add_up(found: Sweep) -> None:
    assert [point.codebook_size for point in found.points] == list(SIZES)
    for point in found.points:
        assert len(point.prefix_shares) == PRESETS["tiny"].codebooks + 2  # 0, 1, ..., L with the collision digit
        assert sum(point.prefix_shares) == pytest.approx(1.0)
        assert 0 <= point.groups["all"].low <= point.groups["all"].value <= point.groups["all"].high
    # More codes name smaller neighbourhoods, of which training has seen fewer after each other.
    small, large = found.points
    assert small.prefix_shares[0] < large.prefix_shares[0]


def test_a_finished_sweep_is_not_trained_again(found: Sweep, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.pt")}
    assert before
    again = run(folder, Console(file=io.StringIO()))
    assert [point.groups for point in again.points] == [point.groups for point in found.points]
    assert {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.pt")} == before


def test_the_last_weights_are_kept() -> None:
    options = equal_budget(PRESETS["small"].fit_tiger)
    assert options.evaluate_every == options.epochs


def test_the_results_are_shown(found: Sweep, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    print_sweep(found, console)
    for point in found.points:
        assert f"{point.groups['all'].value:.4f}" in console.file.getvalue()  # type: ignore[attr-defined]
    draw(found, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
