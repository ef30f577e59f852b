"""Graphs with int8 weights against what they were made from."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.decode import overlap
from models.bundle import Bundle
from models.graphs import Graphs
from models.sessions import Execution, open_session
from training.quantise import quantise

ROWS, INNER, COLUMNS = 5, 24, 7


def test_a_product_is_that_of_rounded_activations_and_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight = (random.standard_normal((INNER, COLUMNS)) * np.arange(1, COLUMNS + 1)).astype(np.float32)
    x = random.standard_normal((ROWS, INNER)).astype(np.float32)
    onnx.save(_product(weight), tmp_path / "exact.onnx")
    quantise(tmp_path / "exact.onnx", tmp_path / "int8.onnx")
    (found,) = open_session(tmp_path / "int8.onnx", 1).run(None, {"x": x})
    np.testing.assert_allclose(found, _naive(x, weight), rtol=0, atol=1e-4)
    error = np.abs(found - x @ weight).max()
    assert 0 < error < 0.03 * np.abs(x @ weight).max()


def _product(weight: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, INNER])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, COLUMNS])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])


def _naive(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Activations as 8 bits over their range, weights as 7 bits over that of each column."""
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255
    zero = np.round(-min(x.min(), 0) / step)
    rounded = np.clip(np.round(x / step) + zero, 0, 255)
    steps = np.abs(weight).max(axis=0) / 64
    return (rounded - zero) @ np.round(weight / steps) * step * steps


@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_no_pair_of_products_overflows_16_bits(int8_path: Path, name: str) -> None:
    """What processors without VNNI add up: two products of an activation (0..255) and a weight."""
    graph = onnx.load(int8_path / f"{name}.int8.onnx").graph
    weights = [numpy_helper.to_array(w) for w in graph.initializer if w.data_type == TensorProto.INT8 and w.dims]
    matrices = [weight for weight in weights if weight.ndim == 2]
    assert len(matrices) > 10
    assert max(int(np.abs(matrix).max()) for matrix in matrices) * 2 * 255 < 1 << 15


@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_only_products_with_a_constant_matrix_change(int8_path: Path, name: str) -> None:
    source = Bundle.open(int8_path).manifest.graphs[name].on_cpu
    exact, rounded = (onnx.load(int8_path / file).graph for file in (source, f"{name}.int8.onnx"))
    matrices = {weight.name for weight in exact.initializer if len(weight.dims) == 2}
    products = [node for node in exact.node if node.op_type in ("MatMul", "Gemm")]
    constant = sum(node.input[1] in matrices for node in products)
    before, after = (Counter(node.op_type for node in graph.node) for graph in (exact, rounded))
    assert after["MatMulInteger"] == constant
    assert after["MatMul"] + after["Gemm"] == len(products) - constant
    for operator in ("Attention", "RMSNormalization", "LayerNormalization", "Gather", "TopK"):
        assert after[operator] == before[operator]


@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_nearly_all_of_the_best_ten_stay(int8_path: Path, name: str) -> None:
    bundle, random = Bundle.open(int8_path), np.random.default_rng(0)
    histories = [random.integers(1, 61, random.integers(1, 20)).tolist() for _ in range(64)]
    exact = Graphs(bundle).generate(name, histories)
    rounded = Graphs(bundle, Execution(precision="int8")).generate(name, histories)
    assert overlap(rounded.items, exact.items, 10) > 0.95
    assert 0 < np.abs(rounded.scores - exact.scores).mean() < 0.05


def test_nothing_is_logged(int8_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        quantise(int8_path / "tiger.onnx", tmp_path / "tiger.int8.onnx")
    assert not caplog.records
    assert (tmp_path / "tiger.int8.onnx").read_bytes() == (int8_path / "tiger.int8.onnx").read_bytes()
