"""Graphs written again from the checkpoints of a bundle."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import Bundle
from models.ensemble import EnsembleParameters
from models.errors import BundleError
from models.graphs import Graphs
from models.histories import pad
from models.networks.sid_mlp import SidMlpBeam, SidMlpPlusPlus
from training.export import level_tensors
from training.publish import export_again, strip, write_manifest

HISTORIES = [[1, 2, 3], [60], [9, 8]]


@pytest.fixture
def copy(bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_path, tmp_path / "tiny" / "1"))


def test_graphs_are_written_again_from_the_checkpoints(copy: Path, bundle: Bundle, graphs: Graphs) -> None:
    for name in bundle.manifest.graphs:
        (copy / f"{name}.onnx").write_bytes(b"not a graph")
    write_manifest(copy, bundle.manifest)
    assert export_again(copy.parent) == (copy, [])  # the newest version of the folder
    again = Bundle.open(copy)
    assert again.manifest.model_copy(update={"files": {}}) == bundle.manifest.model_copy(update={"files": {}})
    assert [path.name for path in copy.parent.iterdir()] == ["1"]
    assert Graphs(again).rank(HISTORIES).items.tolist() == graphs.rank(HISTORIES).items.tolist()
    for name in ("tiger", "sid_mlp"):
        answer, expected = Graphs(again).generate(name, HISTORIES), graphs.generate(name, HISTORIES)
        np.testing.assert_array_equal(answer.items, expected.items)
        np.testing.assert_allclose(answer.scores, expected.scores, rtol=0, atol=1e-6)


def test_a_sid_mlp_pp_that_is_put_beside_the_others_becomes_a_graph(
    plus_plus_path: Path, plus_plus: SidMlpPlusPlus, bundle: Bundle
) -> None:
    found = Bundle.open(plus_plus_path)
    assert list(found.manifest.graphs) == ["sasrec", "tiger", "sid_mlp", "sid_mlp_pp"]
    assert found.manifest.ensembles == {
        **bundle.manifest.ensembles,
        "sid_mlp_pp": EnsembleParameters(method="fixed"),
    }
    trained = sum(p.numel() for p in plus_plus.parameters()) - plus_plus.encoder.embedding.weight.numel()
    assert found.manifest.graphs["sid_mlp_pp"].parameters == trained
    beam = SidMlpBeam(plus_plus.encoder, plus_plus.student, found.manifest.graphs["tiger"].width).eval()
    allowed = np.random.default_rng(0).random((len(HISTORIES), found.catalogue.size + 1)) < 0.5
    with torch.no_grad():
        items, scores = beam(
            torch.from_numpy(pad(HISTORIES, 20)),
            torch.from_numpy(found.catalogue.codes),
            torch.from_numpy(found.trie.leaf_item),
            level_tensors(found.trie, allowed),
        )
    answer = Graphs(found).generate("sid_mlp_pp", HISTORIES, allowed)
    np.testing.assert_array_equal(answer.items, items)
    np.testing.assert_allclose(answer.scores, scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_checkpoints_that_do_not_fit_leave_the_bundle_alone(copy: Path, bundle: Bundle, damage: str) -> None:
    checkpoints = copy / "checkpoints"
    if damage == "missing":
        (checkpoints / "tiger.safetensors").unlink()
    else:
        shutil.copy(checkpoints / "sid_mlp.safetensors", checkpoints / "tiger.safetensors")
    write_manifest(copy, bundle.manifest)
    before = (copy / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="must be a checkpoint that this release wrote"):
        export_again(copy)
    assert (copy / "manifest.json").read_bytes() == before
    Bundle.open(copy)


def test_int8_graphs_stay_where_the_exact_ones_come_out_unchanged(int8_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(int8_path, tmp_path / "tiny" / "1"))
    before = Bundle.open(copy).manifest
    (copy / "sid_mlp.cpu.onnx").write_bytes(b"an older graph")
    write_manifest(copy, before)
    assert export_again(copy) == (copy, ["sid_mlp"])
    after = Bundle.open(copy).manifest
    assert after.graphs["tiger"] == before.graphs["tiger"]
    assert after.graphs["sid_mlp"].int8 is None
    assert not (copy / "sid_mlp.int8.onnx").exists()


def test_a_stripped_bundle_answers_as_before_and_knows_no_titles(copy: Path, bundle: Bundle, graphs: Graphs) -> None:
    assert any(bundle.catalogue.attributes(item) for item in range(1, bundle.catalogue.size + 1))
    assert strip(copy.parent) == copy
    found = Bundle.open(copy)
    assert found.catalogue.table.column_names == ["index", "item_id", "codes"]
    assert not any(found.catalogue.attributes(item) for item in range(1, found.catalogue.size + 1))
    assert list(found.catalogue.item_ids) == list(bundle.catalogue.item_ids)
    expected = graphs.generate("tiger", HISTORIES).items.tolist()
    assert Graphs(found).generate("tiger", HISTORIES).items.tolist() == expected


def test_a_light_bundle_is_without_sid_mlp_pp_and_what_can_be_made_again(plus_plus_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(plus_plus_path, tmp_path / "1"))
    before = Bundle.open(path).manifest
    assert before.graphs["sid_mlp_pp"].cpu
    rows = {"tiger": 1, "candidates_sid_mlp_pp": 2}
    write_manifest(path, before.model_copy(update={"metrics": {"test": {"protocols": {"A": {"rows": rows}}}}}))
    strip(path, light=True)
    found = Bundle.open(path)
    assert {file.name for file in path.glob("*.onnx")} == {"sasrec.onnx", "tiger.onnx", "sid_mlp.onnx"}
    assert not list(path.rglob("*sid_mlp_pp*"))
    assert "sid_mlp_pp" not in found.manifest.ensembles
    assert found.manifest.metrics == {"test": {"protocols": {"A": {"rows": {"tiger": 1}}}}}
    for name in ("tiger", "sid_mlp"):
        assert found.manifest.graphs[name].int8 is found.manifest.graphs[name].cpu is None
        expected = Graphs(Bundle.open(plus_plus_path)).generate(name, HISTORIES).items.tolist()
        assert Graphs(found).generate(name, HISTORIES).items.tolist() == expected
    export_again(path)
    assert Bundle.open(path).manifest.graphs["sid_mlp"].cpu == "sid_mlp.cpu.onnx"
