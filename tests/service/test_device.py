"""What a start says about the device, and a start that asks for one that is not there."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from models.sessions import CPU, gpus
from service.settings import Settings, cores
from tests.service.servers import ready, serve

without_gpu = pytest.mark.skipif(gpus() > 0, reason="a GPU is there")


@without_gpu
def test_a_start_without_the_gpu_that_it_needs_ends_with_the_way_out(bundle_path: Path) -> None:
    process = serve(bundle_path, device="cuda")
    output, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert not output
    assert "device cuda needs a GPU that works" in log
    assert "set TANDEM_DEVICE to auto or cpu" in log


def test_a_start_says_what_runs_the_graphs_and_why(bundle_path: Path) -> None:
    with capture_logs() as logs, ready(bundle_path, device="cpu", workers=3):
        pass
    (line,) = [entry for entry in logs if entry["event"] == "graphs opened"]
    assert line["providers"] == {"sasrec": CPU, "tiger": CPU, "sid_mlp": CPU}
    assert (line["reason"], line["workers"], line["threads"]) == ("the CPU was asked for", 3, 1)


def test_workers_and_threads_fill_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 4, 6}, raising=False)
    assert cores() == 4
    assert Settings().workers == 4
    assert Settings(intra_op_threads=2).workers == 2
    assert Settings(intra_op_threads=8).workers == 1
    assert Settings(intra_op_threads=2, workers=4).workers == 4
