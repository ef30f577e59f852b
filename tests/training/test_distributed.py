"""Two processes train what one trains."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from training.data.dataset import load_dataset
from training.data.demo import write_demo
from training.distributed import Workers, joined
from training.iirg import Iirg, IirgOptions
from training.loop import Runtime
from training.presets import PRESETS
from training.recommenders import Workshop, train_tiger
from training.regularization import Regularization

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def train(data: Path, work: Path) -> None:
    """TIGER of the preset `tiny` without dropout, whose masks depend on how rows are dealt out, but with all else."""
    with joined("cpu") as workers:
        dataset = load_dataset(data)
        tiny = PRESETS["tiny"]
        random = np.random.default_rng(0)
        leaves = random.choice(64**3, dataset.num_items, replace=False)
        codes = np.stack([np.r_[0, digit] for digit in np.unravel_index(leaves, (64, 64, 64))], axis=1)
        vectors = random.normal(size=(dataset.num_items, 8)).astype(np.float32)
        iirg = Iirg.of(IirgOptions(), dataset.training_sequences(), vectors)
        console = Console(file=sys.stdout if workers.main else io.StringIO())
        shop = Workshop(dataset, Runtime(), work, console)
        network, reports = train_tiger(
            shop,
            codes,
            replace(tiny.tiger, dropout=0.0),
            tiny.fit_tiger,
            Regularization(ema=0.5),
            iirg,
            tiny.fit_tiger_whole,
        )
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        losses = [epoch["loss"] for report in reports for epoch in report.history]
        torch.save((weights, losses), work / f"weights_{workers.rank}_of_{workers.size}.pt")


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path) -> None:
    """Weights agree to 1e-4: sums are rounded in another order, and Adam carries that along."""
    write_demo(tmp_path / "data", items=720, users=120)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    train(tmp_path / "data", one)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom tests.training.test_distributed import train\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    run = subprocess.run(
        [*TORCHRUN, str(script), str(tmp_path / "data"), str(two)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("best validation") == 2  # the main process alone prints
    alone, losses = torch.load(one / "weights_0_of_1.pt", weights_only=True)
    for rank in (0, 1):
        weights, found = torch.load(two / f"weights_{rank}_of_2.pt", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-4)
        assert found == pytest.approx(losses, rel=1e-4)


def test_shares_are_a_partition_whose_weights_make_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=11)
    for size in (1, 2, 3, 4, 12, 20):
        shares = [Workers(rank, size).share(np.arange(11)) for rank in range(size)]
        assert sum(weight * values[rows].mean() for rows, weight in shares) == pytest.approx(values.mean())
        assert np.concatenate([rows for rows, weight in shares if weight]).tolist() == list(range(11))
        assert all(len(rows) for rows, _ in shares)


def test_a_process_alone_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined("cpu") as workers:
        assert workers == Workers.present() == Workers()
        assert workers.main
        assert workers.told(0.5, "cpu") == 0.5
        loss = torch.tensor(2.0)
        assert workers.total([], loss) is loss


def test_only_the_others_draw_anew() -> None:
    torch.manual_seed(5)
    Workers(0, 2).seed(0, 1)
    main = torch.rand(4)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4), main)
    draws = []
    for rank, epoch in ((1, 0), (1, 1), (2, 0), (1, 0)):
        Workers(rank, 3).seed(0, epoch)
        draws.append(torch.rand(4).tolist())
    assert draws[0] == draws[3]
    assert len({tuple(draw) for draw in draws}) == 3
