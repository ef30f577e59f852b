"""How much a graph computes, and how fast ONNX Runtime computes at best on this machine."""

import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from models.sessions import open_session
from training.export import OPSET
from training.quantise import quantise

SIZE = 512  # of the square matrices of the peak
CALLS = 50
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm")


def flops(path: Path, feeds: Mapping[str, Any]) -> int:
    """Operations of all matrix products and attentions in one call of a graph in float32.

    They are counted from the shapes that ONNX Runtime's profile of the call holds; a multiplication with its addition
    counts as two.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    return sum(_operations(event["args"]) for event in events if event["name"].endswith("_kernel_time"))


def _operations(node: Mapping[str, Any]) -> int:
    if node["op_name"] not in (*PRODUCTS, "Attention"):
        return 0
    inputs, outputs = (_shapes(node[side]) for side in ("input_type_shape", "output_type_shape"))
    if node["op_name"] == "Attention":  # queries [..., S, I] against keys [..., T, I], and once more for the values
        return 4 * math.prod(inputs[0]) * inputs[1][-2]
    return 2 * math.prod(inputs[0]) * outputs[0][-1]


def _shapes(tensors: list[dict[str, list[int]]]) -> list[list[int]]:
    return [shape for tensor in tensors for shape in tensor.values()]


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of the fastest of many products of two square matrices, in fp32 and with int8 weights."""
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((2, SIZE, SIZE)).astype(np.float32)
    shape = (TensorProto.FLOAT, [SIZE, SIZE])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "peak",
        [helper.make_tensor_value_info("x", *shape)],
        [helper.make_tensor_value_info("y", *shape)],
        [numpy_helper.from_array(weight, "weight")],
    )
    with tempfile.TemporaryDirectory() as folder:
        exact, rounded = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), exact)
        quantise(exact, rounded)
        return {path.stem: _fastest(open_session(path, threads), {"x": x}) for path in (exact, rounded)}


def _fastest(session: Any, feeds: Mapping[str, Any]) -> float:
    seconds = []
    for _ in range(CALLS):
        started = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds) / 1e9
