"""The sizes of SID-MLP++ end to end at tiny size: measured like the bundle's own models, and not trained twice."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from models.bundle import Bundle
from models.errors import TrainingError
from tests.training.test_lists import tiny_dataset
from training.evaluate import evaluate
from training.loop import Runtime
from training.metrics import Estimate
from training.presets import PRESETS
from training.recipes.student_sizes import Point, Size, Sizes, compare, parse_size, print_sizes, smallest

QUIET = Console(file=io.StringIO())
SIZES = ((1, 8), (2, 16))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sizes")


def run(bundle: Bundle, work: Path, sizes: Sequence[Size]) -> Sizes:
    tiny = PRESETS["tiny"]
    heads, encoder = replace(tiny.fit_sid_mlp, epochs=1), replace(tiny.fit_role_encoder, epochs=2)
    brief = replace(tiny, fit_sid_mlp=heads, fit_role_encoder=encoder)
    return compare(bundle, tiny_dataset(bundle), brief, sizes, Runtime(), work, QUIET)


@pytest.fixture(scope="module")
def found(bundle: Bundle, work: Path) -> Sizes:
    return run(bundle, work, SIZES)


def test_the_bundles_models_have_the_figures_of_evaluate(found: Sizes, bundle: Bundle) -> None:
    results = evaluate(bundle, tiny_dataset(bundle), "test", QUIET)
    assert [point.name for point in found.references] == ["tiger", "sid_mlp"]
    for point in found.references:
        for protocol, part in results.protocols.items():
            assert point.ndcg_at_10["test"][protocol] == part.rows[point.name].metrics["ndcg@10"]
    assert found.references[0].kept == 1.0


def test_every_size_is_trained_and_measured(found: Sizes) -> None:
    assert [point.name for point in found.students] == ["1x8", "2x16"]
    assert found.students[0].parameters < found.students[1].parameters
    teacher = found.references[0]
    for point in found.students:
        assert point.states_explained is not None
        for split, by_protocol in point.ndcg_at_10.items():
            for protocol, value in by_protocol.items():
                share = value.value / teacher.ndcg_at_10[split][protocol].value
                assert point.shares[split][protocol] == pytest.approx(share)
    assert found.smallest == smallest(found.students)


def test_what_is_complete_is_not_trained_again(found: Sizes, bundle: Bundle, work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.pt")}
    assert len(before) == 2 * 2 * len(SIZES)  # last and best weights of both stages
    again = run(bundle, work, SIZES[:1])
    assert again.references == found.references
    assert again.students == found.students[:1]
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.pt")} == before


def point(name: str, parameters: int, a: float, b: float) -> Point:
    value = Estimate(0.1, 0.1, 0.1)
    scores = {split: {"A": value, "B": value} for split in ("valid", "test")}
    shares = {"valid": {"A": a, "B": b}, "test": {"A": 1.0, "B": 1.0}}
    return Point(name=name, parameters=parameters, ndcg_at_10=scores, shares=shares)


def test_the_smallest_keeps_enough_under_both_protocols() -> None:
    students = [point("wide", 90, 1.0, 1.0), point("good", 50, 0.99, 0.971), point("small", 10, 1.0, 0.96)]
    assert smallest(students) == "good"
    assert smallest(students[2:]) is None


def test_the_results_are_shown(found: Sizes) -> None:
    console = Console(file=io.StringIO(), width=180)
    print_sizes(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for point in (*found.references, *found.students):
        assert f"{point.ndcg_at_10['test']['B'].value:.4f}" in text
    assert Sizes.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("text", ["512", "2x", "x512", "0x512", "2x-1", "two"])
def test_a_size_is_two_whole_numbers(text: str) -> None:
    assert parse_size("2x512") == (2, 512)
    with pytest.raises(TrainingError, match="LAYERSxHIDDEN"):
        parse_size(text)
