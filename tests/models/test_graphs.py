"""Every ONNX graph of a bundle against the PyTorch network it was exported from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.hugging_face import ConstrainedGenerate
from models.bundle import Bundle
from models.graphs import Graphs
from models.histories import allow_all_but, pad
from models.networks.beam import TigerBeam
from models.networks.fused import FusedTigerBeam
from models.networks.sid_mlp import SidMlpBeam
from models.networks.topk import SASRecTopK
from models.sessions import open_session
from models.trie import Trie
from tests.bundles import ITEMS, WIDTH
from training.export import export_generative, in_half, level_tensors
from training.publish import Parts

BATCHES: list[list[list[int]]] = [
    [[5]],
    [[1, 2, 3], [60], [9, 8]],
    [list(range(1, 31)), [4, 4, 4], [], [59, 60]],
]


def in_torch(module: torch.nn.Module, parts: Parts, histories: Sequence[Sequence[int]], allowed: np.ndarray) -> tuple:
    trie = Trie.build(parts.catalogue.codes)
    item_codes, leaf_item = torch.from_numpy(parts.catalogue.codes), torch.from_numpy(trie.leaf_item)
    history = torch.from_numpy(pad(histories, parts.tiger.config.max_history))
    with torch.no_grad():
        return module.eval()(history, item_codes, leaf_item, level_tensors(trie, allowed))


def masks(batch: int) -> list[np.ndarray]:
    some = np.random.default_rng(batch).random((batch, ITEMS + 1)) < 0.4
    return [np.ones((batch, ITEMS + 1), dtype=np.bool_), some]


@pytest.mark.parametrize("histories", BATCHES)
@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_generative_graph_is_its_network(graphs: Graphs, parts: Parts, name: str, histories: list[list[int]]) -> None:
    module = {
        "tiger": TigerBeam(parts.tiger, WIDTH),
        "sid_mlp": SidMlpBeam(parts.tiger.encoder, parts.student, WIDTH),
    }[name]
    for allowed in masks(len(histories)):
        items, scores = in_torch(module, parts, histories, allowed)
        answer = graphs.generate(name, histories, allowed)
        np.testing.assert_array_equal(answer.items, items.numpy())
        np.testing.assert_allclose(answer.scores, scores.numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("histories", BATCHES)
def test_sasrec_graph_is_its_network(graphs: Graphs, parts: Parts, histories: list[list[int]]) -> None:
    module = SASRecTopK(parts.sasrec, WIDTH).eval()
    history = torch.from_numpy(pad(histories, parts.sasrec.config.max_history))
    for allowed in masks(len(histories)):
        with torch.no_grad():
            expected = [output.numpy() for output in module(history, torch.from_numpy(allowed))]
        answer = graphs.rank(histories, allowed)
        np.testing.assert_array_equal(answer.items, expected[0])
        for ours, theirs in zip(answer[1:], expected[1:], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_sasrec_statistics_ignore_the_mask(graphs: Graphs, parts: Parts) -> None:
    history = torch.tensor([[5, 6]])
    with torch.no_grad():
        probabilities = torch.softmax(parts.sasrec(history), dim=-1)
    nearly_nothing = np.zeros((1, ITEMS + 1), dtype=np.bool_)
    nearly_nothing[0, 3] = True
    answer = graphs.rank([[5, 6]], nearly_nothing)
    assert answer.items[0].tolist() == [3] + [0] * (WIDTH - 1)
    assert answer.msp[0] == pytest.approx(probabilities.max().item(), abs=1e-6)


def test_masked_history_is_never_recommended(graphs: Graphs) -> None:
    histories = [[1, 2, 3], [10, 20, 30, 40]]
    allowed = allow_all_but(histories, ITEMS)
    for answer in (
        graphs.rank(histories, allowed).items,
        *(graphs.generate(n, histories, allowed).items for n in ("tiger", "sid_mlp")),
    ):
        for row, history in zip(answer, histories, strict=True):
            assert not set(row.tolist()) & set(history)


def test_tiger_graph_is_hugging_face_generate_with_a_prefix_trie(graphs: Graphs, parts: Parts) -> None:
    histories = [[1, 2, 3], [60], [9, 8]]
    generate = ConstrainedGenerate(parts.tiger, torch.from_numpy(parts.catalogue.codes))
    items, scores = generate(torch.from_numpy(pad(histories, parts.tiger.config.max_history)), WIDTH)
    answer = graphs.generate("tiger", histories)
    np.testing.assert_array_equal(answer.items, items.numpy())
    np.testing.assert_allclose(answer.scores, scores.numpy(), rtol=0, atol=1e-4)


def test_another_catalogue_runs_on_the_same_graph(graphs: Graphs, bundle: Bundle, parts: Parts) -> None:
    """Nothing of the catalogue is baked into a generative graph: half the items, same file."""
    half = Bundle(**{**vars(bundle)})
    codes = bundle.catalogue.codes[: ITEMS // 2 + 1]
    catalogue = type(bundle.catalogue)(bundle.catalogue.item_ids[: ITEMS // 2], codes, bundle.catalogue.table)
    half = Bundle(**{**vars(bundle), "catalogue": catalogue, "trie": Trie.build(codes)})
    answer = Graphs(half).generate("tiger", [[1, 2]])
    found = answer.items[answer.items > 0]
    assert len(found) == WIDTH
    assert found.max() <= ITEMS // 2


def test_a_cpu_has_a_file_of_its_own_with_the_same_answers(graphs: Graphs, bundle: Bundle) -> None:
    """A GPU cannot record rows that depend on the data, so its file has none."""
    assert graphs.choices["sid_mlp"].file == "sid_mlp.cpu.onnx"
    operators = {
        file: {node.op_type for node in onnx.load(bundle.path / file).graph.node}
        for file in ("sid_mlp.onnx", "sid_mlp.cpu.onnx")
    }
    assert {file for file, found in operators.items() if "NonZero" in found} == {"sid_mlp.cpu.onnx"}
    for histories in BATCHES:
        for allowed in masks(len(histories)):
            feeds = {
                "history": pad(histories, graphs.entries["sid_mlp"].max_history),
                **{f"allowed_{level}": mask for level, mask in enumerate(bundle.trie.node_masks(allowed))},
            }
            items, scores = open_session(bundle.path / "sid_mlp.onnx").run(None, {**feeds, **graphs.tables("sid_mlp")})
            answer = graphs.generate("sid_mlp", histories, allowed)
            np.testing.assert_array_equal(answer.items, items)
            np.testing.assert_allclose(answer.scores, scores, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_int32_tables_are_not_read_by_an_operator_that_gpus_lack(bundle: Bundle, name: str) -> None:
    """The CUDA provider has `GatherND` for int64 and floats only (docs/OperatorKernels.md of ONNX Runtime)."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(bundle.path / f"{name}.onnx")).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    readers = {node.op_type for node in graph.node if types.get(node.input[0]) == onnx.TensorProto.INT32}
    assert "Gather" in readers
    assert "GatherND" not in readers


def test_float16_answers_nearly_as_float32(graphs: Graphs, parts: Parts, tmp_path: Path) -> None:
    search = FusedTigerBeam(parts.tiger, WIDTH).eval()
    codes = torch.from_numpy(parts.catalogue.codes)
    export_generative(in_half(search), graphs.bundle.trie, codes, tmp_path / "half.onnx")
    weights = onnx.load(tmp_path / "half.onnx").graph.initializer
    assert onnx.TensorProto.FLOAT16 in {weight.data_type for weight in weights}
    assert next(search.parameters()).dtype == torch.float32
    for histories in BATCHES:
        exact = graphs.generate("tiger", histories)
        masks = graphs.bundle.trie.node_masks(np.ones((len(histories), ITEMS + 1), dtype=np.bool_))
        feeds = {"history": pad(histories, 20), **{f"allowed_{level}": mask for level, mask in enumerate(masks)}}
        items, scores = open_session(tmp_path / "half.onnx").run(None, {**feeds, **graphs.tables("tiger")})
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, exact.scores, rtol=0, atol=0.02)
        for ours, theirs in zip(items, exact.items, strict=True):
            assert len(set(ours.tolist()) & set(theirs.tolist())) >= WIDTH - 2
