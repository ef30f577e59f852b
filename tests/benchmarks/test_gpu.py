"""The benchmark for GPUs at toy size on the CPU, where all of its contestants run as well."""

from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.gpu import FIXED, PEER, TORCH, Stand, compare, main
from models.networks.tiger import TigerConfig
from models.sessions import gpus

TOY = TigerConfig(d_model=16, d_ff=16, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1)


def test_all_contestants_decode_the_same_items(tmp_path: Path) -> None:
    with torch.no_grad():
        stand = Stand("cpu", TOY, [2], tmp_path, Console(quiet=True))
        stand.open(4)
        found = compare(stand.contestants(2, 4), 1, lambda: None)
    graphs = {f"{network}, {precision}" for network in ("TIGER", "SID-MLP") for precision in ("fp32", "fp16")}
    assert set(found["median_ms"]) == {PEER, TORCH, *graphs, *(f"{name}, {FIXED['cpu']}" for name in graphs)}
    assert found["equal_items"]["TIGER, fp32"] == found["equal_items"][f"TIGER, fp32, {FIXED['cpu']}"] == 1.0


@pytest.mark.skipif(gpus() > 0, reason="a GPU is there")
def test_cuda_without_a_gpu_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--device", "cuda"])
    assert "--device cuda needs a GPU, but" in capsys.readouterr().err
