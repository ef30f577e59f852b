"""Where graphs run: the device that is asked for and the one that is there."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models import sessions
from models.bundle import Bundle
from models.errors import BundleError, DeviceError
from models.graphs import Graphs
from models.sessions import CPU, CUDA, Execution, gpus, open_graph

without_gpu = pytest.mark.skipif(gpus() > 0, reason="a GPU is there")


@without_gpu
def test_cuda_without_a_gpu_is_refused_with_the_way_out(bundle: Bundle) -> None:
    with pytest.raises(DeviceError, match=r"needs a GPU that works, but .*Install the extra \[gpu\].* TANDEM_DEVICE"):
        Graphs(bundle, Execution(device="cuda"))


@without_gpu
def test_auto_without_a_gpu_takes_the_cpu_and_says_why(bundle_path: Path) -> None:
    opened = open_graph(bundle_path / "tiger.onnx", Execution(), record=True)
    assert (opened.provider, opened.device, opened.records) == (CPU, "cpu", False)
    assert opened.session.get_providers() == [CPU]
    assert opened.reason in ("this ONNX Runtime is built for the CPU", "the NVIDIA driver offers no GPU")


def test_the_cpu_is_taken_when_asked_for(bundle_path: Path) -> None:
    opened = open_graph(bundle_path / "tiger.onnx", Execution(device="cpu", threads=2))
    assert (opened.provider, opened.reason) == (CPU, "the CPU was asked for")
    assert opened.session.get_session_options().intra_op_num_threads == 2


@without_gpu
@pytest.mark.parametrize("record", [False, True])
def test_a_session_that_falls_back_is_noticed(bundle_path: Path, monkeypatch: pytest.MonkeyPatch, record: bool) -> None:
    """A driver and a wheel that both promise a GPU which then does not work."""
    monkeypatch.setattr(sessions, "gpus", lambda: 1)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    # What the wheel for GPUs does without CUDA's libraries; the one for CPUs does not know the name and warns.
    real = ort.InferenceSession
    monkeypatch.setattr(ort, "InferenceSession", lambda path, options, **_: real(path, options, providers=[CPU]))
    opened = open_graph(bundle_path / "tiger.onnx", Execution(), record=record)
    assert opened.provider == CPU
    assert "could not start its CUDA provider" in opened.reason
    with pytest.raises(DeviceError, match="could not start its CUDA provider"):
        open_graph(bundle_path / "tiger.onnx", Execution(device="cuda"), record=record)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiger.onnx").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match="must be a graph that ONNX Runtime"):
        open_graph(tmp_path / "tiger.onnx", Execution())


def test_all_graphs_share_the_tables_of_the_catalogue(graphs: Graphs, bundle: Bundle) -> None:
    assert graphs.tables("tiger") is graphs.tables("sid_mlp")
    assert not graphs.tables("sasrec")
    codes = graphs.tables("tiger")["item_codes"]
    np.testing.assert_array_equal(codes.numpy(), bundle.catalogue.codes)
    if codes.device_name() == "cpu":
        assert codes.data_ptr() == bundle.catalogue.codes.ctypes.data
