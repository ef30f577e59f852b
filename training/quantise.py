"""Graphs with weights of 8 bits: written by ONNX Runtime's dynamic quantisation, and measured against the exact ones.

Products of activations with a constant matrix are computed in integers, activations quantised by their range in each
call. Weights have one scale a column and 7 bits: where a processor adds products in pairs of 16 bits (AVX2 without
VNNI) those of 8 bits overflow, and a bundle must answer alike on the machine that measured it and on those that serve.
"""

import logging
from dataclasses import replace
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from rich.console import Console

from models.bundle import Bundle, GraphEntry, Int8Entry
from models.graphs import Graphs
from models.sessions import Execution
from training.data.dataset import Instances
from training.lists import Lists, collect
from training.metrics import ndcg, ranks


def quantise(source: Path, target: Path) -> None:
    """Write the graph in `source` with int8 weights to `target`."""
    model = onnx.load(source)
    matrices = {weight.name for weight in model.graph.initializer if len(weight.dims) == 2}
    add_pre_process_metadata(model)  # the export has simplified it already; without this, a warning says to do so
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        quantize_dynamic(
            model,
            target,
            # By default it takes the Attention of opset 23 for an older operator of that name, and breaks it.
            op_types_to_quantize=["MatMul"],
            # Of more dimensions, a session fails on them when it runs; of none, there is no weight to quantise.
            nodes_to_exclude=[n.name for n in model.graph.node if n.op_type == "MatMul" and n.input[1] not in matrices],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    finally:
        logging.disable(level)


def add_int8(
    directory: Path, bundle: Bundle, lists: Lists, instances: Instances, console: Console
) -> dict[str, GraphEntry]:
    """Write int8 files of the generative graphs of a staged bundle into its folder, measured on validation users.

    `lists` are the answers of the exact graphs to `instances` under protocol B. SASRec stays as it is: scoring the
    catalogue takes most of its time, and int8 would save a tenth of a millisecond. Returns the entries of all graphs.
    """
    console.print("quantising the generative graphs")
    exact, users = _ndcg(lists, instances), len(instances.targets)
    graphs = dict(bundle.manifest.graphs)
    for name in exact:
        int8 = Int8Entry(file=f"{name}.int8.onnx", users=users, ndcg_at_10=0.0, ndcg_at_10_fp32=exact[name])
        quantise(directory / graphs[name].on_cpu, directory / int8.file)
        graphs[name] = graphs[name].model_copy(update={"int8": int8})
    quantised = replace(bundle, manifest=bundle.manifest.model_copy(update={"graphs": graphs}))
    found = _ndcg(collect(Graphs(quantised, Execution(precision="int8")), instances, "B", console), instances)
    for name, value in found.items():
        int8 = Int8Entry(file=f"{name}.int8.onnx", users=users, ndcg_at_10=value, ndcg_at_10_fp32=exact[name])
        console.print(f"{name}: int8 loses {int8.loss:.2%} of NDCG@10 on {users} validation users")
        graphs[name] = graphs[name].model_copy(update={"int8": int8})
    return graphs


def _ndcg(lists: Lists, instances: Instances) -> dict[str, float]:
    """Mean NDCG@10 of each generative graph."""
    return {
        name: float(ndcg(ranks(answer.items, instances.targets), 10).mean()) for name, answer in lists.generated.items()
    }
