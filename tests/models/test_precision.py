"""Which file of a graph runs: the exact one, or int8 where its recorded loss allows it."""

from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, GraphEntry, Int8Entry
from models.errors import BundleError
from models.graphs import Graphs
from models.precision import CPU, Precision, choose
from models.sessions import Execution

HISTORIES = [[1, 2, 3], [60], [9, 8]]
FP32 = {"sasrec": "sasrec.onnx", "tiger": "tiger.onnx", "sid_mlp": "sid_mlp.cpu.onnx"}


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        ("fp32", FP32),
        ("auto", {**FP32, "tiger": "tiger.int8.onnx"}),  # loses .4 %, SID-MLP .6 %
        ("int8", {**FP32, "tiger": "tiger.int8.onnx", "sid_mlp": "sid_mlp.int8.onnx"}),
    ],
)
def test_the_recorded_loss_decides(int8_path: Path, wanted: Precision, files: dict[str, str]) -> None:
    bundle = Bundle.open(int8_path)
    graphs = Graphs(bundle, Execution(precision=wanted))
    assert {name: choice.file for name, choice in graphs.choices.items()} == files
    for name in ("tiger", "sid_mlp"):
        answer, exact = graphs.generate(name, HISTORIES), Graphs(bundle).generate(name, HISTORIES)
        assert np.array_equal(answer.scores, exact.scores) == (files[name] == FP32[name])


@pytest.mark.parametrize(("found", "precision"), [(0.4, "int8"), (0.3985, "int8"), (0.3975, "fp32"), (0.41, "int8")])
def test_half_a_per_cent_is_the_most_that_auto_gives_away(found: float, precision: str) -> None:
    graphs = {"tiger": _entry(Int8Entry(file="tiger.int8.onnx", users=9, ndcg_at_10=found, ndcg_at_10_fp32=0.4))}
    assert choose(graphs, "auto", CPU)["tiger"].precision == precision


def test_a_graph_that_never_finds_anything_has_nothing_to_lose() -> None:
    assert Int8Entry(file="tiger.int8.onnx", users=9, ndcg_at_10=0.0, ndcg_at_10_fp32=0.0).loss == 0.0


def test_int8_of_a_bundle_without_it_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"needs a bundle with int8 graphs, got one with .*tandem quantise"):
        Graphs(bundle, Execution(precision="int8"))
    assert {choice.precision for choice in Graphs(bundle, Execution(precision="auto")).choices.values()} == {"fp32"}


def test_a_gpu_runs_fp32() -> None:
    graphs = {"tiger": _entry(Int8Entry(file="tiger.int8.onnx", users=9, ndcg_at_10=0.4, ndcg_at_10_fp32=0.4))}
    choice = choose(graphs, "auto", "CUDAExecutionProvider")["tiger"]
    assert (choice.file, choice.precision) == ("tiger.onnx", "fp32")
    assert "CUDAExecutionProvider" in choice.reason
    with pytest.raises(BundleError, match=r"int8 graphs run on CPU.*auto or fp32"):
        choose(graphs, "int8", "CUDAExecutionProvider")


def test_what_depends_on_the_data_is_for_a_cpu() -> None:
    graphs = {"sid_mlp": _entry(None).model_copy(update={"cpu": "sid_mlp.cpu.onnx"})}
    assert choose(graphs, "fp32", CPU)["sid_mlp"].file == "sid_mlp.cpu.onnx"
    assert choose(graphs, "fp32", "CUDAExecutionProvider")["sid_mlp"].file == "tiger.onnx"


def _entry(int8: Int8Entry | None) -> GraphEntry:
    return GraphEntry(file="tiger.onnx", max_history=20, width=50, parameters=1, normalisation="vocabulary", int8=int8)
