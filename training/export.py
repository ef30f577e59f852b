"""Networks to ONNX: one graph a model, with the catalogue and the masks as inputs (DESIGN section 3).

A catalogue of another size runs on the same generative graph; nothing of it is baked in but the number of levels.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxscript import opset23
from onnxscript.optimizer import optimize
from torch import Tensor, nn
from torch.export import Dim

from models.indicators import Ranked
from models.networks.beam import Level, TigerBeam
from models.networks.fused import FusedTigerBeam
from models.networks.sid_mlp import SidMlpBeam
from models.networks.topk import SASRecScan, SASRecTopK
from models.trie import Trie

OPSET = 23  # the first with Attention and RMSNormalization as single operators
CONSTANT = 1 << 30  # bytes: every weight
GENERATED = ("items", "scores")
OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    # One operator where the exporter would write three for negative indexes and nine for negative numbers. Both stand
    # in the search only, where nothing is ever negative.
    torch.ops.aten.take.default: opset23.Gather,
    torch.ops.aten.floor_divide.default: opset23.Div,
}
Search = TigerBeam | FusedTigerBeam | SidMlpBeam


class _Flat(nn.Module):
    """A beam search whose inputs are plain tensors in the order of the graph's contract."""

    def __init__(self, search: Search, levels: int) -> None:
        super().__init__()
        self.search, self.levels = search, levels

    def forward(self, history: Tensor, item_codes: Tensor, leaf_item: Tensor, *tables: Tensor) -> tuple[Tensor, Tensor]:
        """`tables` holds start, code, span and allowed of level 0, then of level 1, and so on."""
        levels = [Level(*tables[4 * t : 4 * t + 4]) for t in range(self.levels)]
        return self.search(history, item_codes, leaf_item, levels)  # type: ignore[no-any-return]


def in_half(search: Search) -> Search:
    """A copy that computes in float16, for a GPU; log-probabilities and scores stay float32.

    Its scores differ from those of float32 in the third digit, so that items whose scores are nearly level may swap.
    """
    return copy.deepcopy(search).half()


def level_tensors(trie: Trie, allowed: NDArray[np.bool_]) -> list[Level]:
    """The trie and the item mask `allowed` [B, N + 1] as inputs of a beam search in PyTorch."""
    masks = trie.node_masks(allowed)
    tables = {name: torch.from_numpy(table) for name, table in trie.tables().items()}
    return [
        Level(tables[f"start_{t}"], tables[f"code_{t}"], tables[f"span_{t}"], torch.from_numpy(masks[t]))
        for t in range(trie.levels)
    ]


def export_generative(search: Search, trie: Trie, item_codes: Tensor, path: Path) -> None:
    """Write a beam search as an ONNX graph."""
    batch, length = Dim("batch"), Dim("length")
    levels = level_tensors(trie, np.ones((2, trie.items + 1), dtype=np.bool_))
    arguments: list[Tensor] = [torch.ones(2, 3, dtype=torch.int64), item_codes, torch.from_numpy(trie.leaf_item)]
    names = ["history", "item_codes", "leaf_item"]
    shapes: list[dict[int, Any]] = [{0: batch, 1: length}, {0: Dim("table")}, {0: Dim("leaves")}]
    for t, level in enumerate(levels):
        arguments += list(level)
        names += [f"start_{t}", f"code_{t}", f"span_{t}", f"allowed_{t}"]
        # The last level's nodes are the leaves, yet each table keeps a size of its own: nothing relies on it.
        start = {} if t == 0 else {0: Dim(f"starts_{t}")}
        nodes = Dim(f"nodes_{t}")
        shapes += [start, {0: nodes}, {0: Dim(f"fan_out_{t}")}, {0: batch, 1: nodes}]
    program = _export(_Flat(search, len(levels)), arguments, names, (*shapes[:3], tuple(shapes[3:])), GENERATED)
    # The exporter leaves large constants alone; a weight must be one, not the transpose of one, to be quantised.
    optimize(program.model, input_size_limit=CONSTANT, output_size_limit=CONSTANT)
    program.save(path, external_data=False)


def export_sasrec(network: SASRecTopK | SASRecScan, path: Path) -> None:
    """Write SASRec's top-k as an ONNX graph."""
    batch = Dim("batch")
    items = network.network.config.items
    arguments = [torch.ones(2, 3, dtype=torch.int64), torch.ones(2, items + 1, dtype=torch.bool)]
    longest = network.network.config.max_history
    shapes = ({0: batch, 1: Dim("length", max=longest)}, {0: batch})
    # Its constants stay as they are: the item table serves the history and, transposed, the output.
    program = _export(network, arguments, ["history", "allowed"], shapes, Ranked._fields)
    if isinstance(network, SASRecScan):
        onnx.save(_rounded(program.model_proto, network.table.numpy()), path)
    else:
        program.save(path, external_data=False)


def _rounded(model: onnx.ModelProto, table: NDArray[np.float32]) -> onnx.ModelProto:
    """The same graph with the product by `table` [d, N] over 8 bits an element and one scale a column."""
    graph, size = model.graph, table.shape[0]
    block = max(16, 1 << (size - 1).bit_length())  # MatMulNBits wants a power of two; a block holds a whole column
    scale = np.maximum(np.abs(table).max(axis=0), np.finfo(np.float32).tiny) / 127
    bytes_ = np.full((table.shape[1], 1, block), 128, dtype=np.uint8)  # 128 stands for 0
    bytes_[:, 0, :size] = np.rint(table / scale).T + 128
    names = {constant.name for constant in graph.initializer if [*constant.dims] == [*table.shape]}
    (product,) = (node for node in graph.node if node.op_type == "MatMul" and node.input[1] in names)
    (constant,) = (constant for constant in graph.initializer if constant.name == product.input[1])
    graph.initializer.remove(constant)
    graph.initializer.append(numpy_helper.from_array(bytes_, "scanned"))
    graph.initializer.append(numpy_helper.from_array(scale.reshape(-1, 1), "scanned_scale"))
    product.op_type, product.domain = "MatMulNBits", "com.microsoft"
    product.input[1:] = ["scanned", "scanned_scale"]
    attributes = {"K": size, "N": table.shape[1], "bits": 8, "block_size": block, "accuracy_level": 4}  # 4: in int8
    product.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _export(
    module: nn.Module,
    arguments: Sequence[Tensor],
    inputs: Sequence[str],
    shapes: tuple[Any, ...],
    outputs: Sequence[str],
) -> torch.onnx.ONNXProgram:
    module.eval().to("cpu")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            module,
            tuple(arguments),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
            custom_translation_table=OPERATORS,
        )
    assert program is not None
    return program
