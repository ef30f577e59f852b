"""The training loop on a toy: it learns, stops, keeps the best, resumes exactly, and refuses what cannot work."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from models.errors import TrainingError
from models.networks.dropout import dropout
from training.loop import FitOptions, FitReport, Runtime, _schedule, bf16_pays, fit

OPTIONS = FitOptions(epochs=6, batch_size=8, learning_rate=0.02, weight_decay=0.01, warmup_steps=5)
RUNTIME = Runtime(bf16=False, seed=3)
QUIET = Console(file=io.StringIO())

Rows = np.ndarray


class InterruptionError(Exception):
    """Stands for a power cut."""


class Net(nn.Module):
    """Dropout makes the state of the random generator matter."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(dropout(torch.tanh(self.inner(x)), 0.2, self.training))


@dataclass
class Toy:
    """A quadratic target over 64 points."""

    network: Net
    x: Tensor
    y: Tensor
    validations: int = 0
    ema: float = 0.0

    @classmethod
    def new(cls, ema: float = 0.0) -> "Toy":
        torch.manual_seed(0)
        x = torch.randn(64, 4)
        return cls(Net(), x, (x**2).sum(1, keepdim=True) / 4, ema=ema)

    def loss(self, rows: Rows) -> Tensor:
        return (self.network(self.x[rows]) - self.y[rows]).square().mean()

    def score(self) -> float:
        return -self.loss(np.arange(64)).item()

    def fit(
        self, directory: Path, options: FitOptions = OPTIONS, validate: Callable[[], float] | None = None
    ) -> FitReport:
        return fit(
            "toy",
            self.network,
            options,
            RUNTIME,
            epoch_batches=lambda random: np.array_split(random.permutation(64), 8),
            loss=self.loss,
            validate=validate or self.score,
            directory=directory,
            console=QUIET,
            ema=self.ema,
        )


def weights(network: nn.Module) -> list[list[float]]:
    return [parameter.flatten().tolist() for parameter in network.parameters()]


def scripted(scores: list[float]) -> Callable[[], float]:
    """Validation scores in order."""
    remaining = iter(scores)
    return lambda: next(remaining)


def test_loss_falls_and_the_report_tells_it(tmp_path: Path) -> None:
    toy = Toy.new()
    before = toy.score()
    report = toy.fit(tmp_path, replace(OPTIONS, epochs=30))
    losses = [entry["loss"] for entry in report.history]
    assert len(losses) == report.epochs == 30
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    assert report.best_score > before / 2
    assert [entry["epoch"] for entry in report.history] == list(range(1, 31))
    assert report.best_score == max(entry["score"] for entry in report.history)
    assert not toy.network.training


def test_the_best_weights_are_left(tmp_path: Path) -> None:
    toy = Toy.new()
    seen: list[list[list[float]]] = []
    scores = scripted([0.1, 0.4, 0.3, 0.4, 0.2, 0.1])

    def validate() -> float:
        seen.append(weights(toy.network))
        return scores()

    report = toy.fit(tmp_path, validate=validate)
    assert (report.best_epoch, report.best_score, report.epochs) == (2, 0.4, 6)
    assert weights(toy.network) == seen[1] != seen[5]


@pytest.mark.parametrize(("every", "expected_epochs"), [(1, 5), (2, 10)])
def test_early_stopping_counts_evaluations(tmp_path: Path, every: int, expected_epochs: int) -> None:
    """The best is the second evaluation; patience of three ends the run at the fifth."""
    options = replace(OPTIONS, epochs=20, patience=3, evaluate_every=every)
    report = Toy.new().fit(tmp_path, options, scripted([0.1, 0.2, 0.2, 0.1, 0.15, 9.0]))
    assert report.epochs == expected_epochs
    assert report.best_epoch == 2 * every


def test_the_last_epoch_is_always_validated(tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=5, evaluate_every=4)
    report = Toy.new().fit(tmp_path, options, scripted([0.1, 0.2]))
    assert [int(entry["epoch"]) for entry in report.history if "score" in entry] == [4, 5]
    assert report.best_epoch == 5


def test_validation_sees_the_network_without_dropout_or_gradients(tmp_path: Path) -> None:
    toy = Toy.new()

    def validate() -> float:
        assert not toy.network.training
        assert torch.is_inference_mode_enabled()
        assert toy.score() == toy.score()
        return 0.0

    toy.fit(tmp_path, replace(OPTIONS, epochs=1), validate)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("epoch", [1, 3, 6])
def test_a_run_stopped_in_validation_resumes_to_the_same_weights(tmp_path: Path, epoch: int, ema: float) -> None:
    whole = Toy.new(ema)
    report = whole.fit(tmp_path / "whole")

    stopped = Toy.new(ema)

    def validate() -> float:
        stopped.validations += 1
        if stopped.validations == epoch:
            raise InterruptionError
        return stopped.score()

    with pytest.raises(InterruptionError):
        stopped.fit(tmp_path / "stopped", validate=validate)
    resumed = Toy.new(ema)
    torch.manual_seed(99)  # a fresh process has another state
    torch.rand(7)
    again = resumed.fit(tmp_path / "stopped")
    assert weights(resumed.network) == weights(whole.network)
    assert [entry["loss"] for entry in again.history] == [entry["loss"] for entry in report.history]
    assert (again.best_epoch, again.best_score) == (report.best_epoch, report.best_score)


def test_the_random_state_of_dropout_matters(tmp_path: Path) -> None:
    """Guards the tests around it: without the saved state, weights would differ."""
    whole = Toy.new()
    whole.fit(tmp_path / "whole")
    other = Toy.new()
    calls = 0

    def loss(rows: Rows) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 20:
            torch.manual_seed(1)
        return Toy.loss(other, rows)

    other.loss = loss  # type: ignore[method-assign]
    other.fit(tmp_path / "other")
    assert weights(other.network) != weights(whole.network)


def test_every_epoch_has_an_order_of_its_own(tmp_path: Path) -> None:
    def orders(directory: Path) -> list[list[int]]:
        toy, seen = Toy.new(), []

        def loss(rows: Rows) -> Tensor:
            seen.extend(rows.tolist())
            return Toy.loss(toy, rows)

        toy.loss = loss  # type: ignore[method-assign]
        toy.fit(directory, validate=lambda: 0.0)
        return [seen[start : start + 64] for start in range(0, len(seen), 64)]

    first = orders(tmp_path / "first")
    assert [sorted(order) for order in first] == [list(range(64))] * OPTIONS.epochs
    assert len({tuple(order) for order in first}) == OPTIONS.epochs
    assert orders(tmp_path / "second") == first


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = Toy.new()
    report = first.fit(tmp_path)
    again = Toy.new()

    def loss(rows: Rows) -> Tensor:
        raise AssertionError("nothing is left to train")

    again.loss = loss  # type: ignore[method-assign]
    assert again.fit(tmp_path) == report
    assert weights(again.network) == weights(first.network)


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.training.test_loop import Toy
toy = Toy.new(float(sys.argv[2]))
plain, calls = toy.loss, 0
def loss(rows):
    global calls
    calls += 1
    if calls == 3 * 9 + 5:  # in the middle of the fourth epoch; an epoch has eight steps and one validation
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(rows)
toy.loss = loss
toy.fit(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_killed_process_resumes_to_the_same_weights(tmp_path: Path, ema: float) -> None:
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(ema)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert killed.returncode == -signal.SIGKILL
    state = torch.load(tmp_path / "killed" / "toy.pt", weights_only=True)
    assert state["report"]["epochs"] == 3
    resumed, whole = Toy.new(ema), Toy.new(ema)
    resumed.fit(tmp_path / "killed")
    whole.fit(tmp_path / "whole")
    assert weights(resumed.network) == weights(whole.network)


def test_a_partial_file_does_not_spoil_a_checkpoint(tmp_path: Path) -> None:
    whole = Toy.new()
    whole.fit(tmp_path)
    (tmp_path / "toy.partial").write_bytes(b"cut off in the middle")
    again = Toy.new()
    again.fit(tmp_path)
    assert weights(again.network) == weights(whole.network)


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"epochs": 7}, {"betas": (0.9, 0.98)}])
def test_another_configuration_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    Toy.new().fit(tmp_path)
    with pytest.raises(TrainingError, match=r"another configuration .*--fresh") as error:
        Toy.new().fit(tmp_path, replace(OPTIONS, **change))  # type: ignore[arg-type]
    stored = json.loads(str(error.value).split("(", 1)[1].rsplit(").", 1)[0])
    assert stored["learning_rate"] == OPTIONS.learning_rate


def test_extras_and_an_average_belong_to_the_configuration(tmp_path: Path) -> None:
    plain = Toy.new()
    plain.fit(tmp_path)
    with pytest.raises(TrainingError, match="another configuration"):
        Toy.new(ema=0.9).fit(tmp_path)
    extras = {"iirg": {"window": 5}}
    with pytest.raises(TrainingError, match="another configuration"):
        fit(
            "toy",
            plain.network,
            OPTIONS,
            RUNTIME,
            epoch_batches=lambda random: [],
            loss=plain.loss,
            validate=plain.score,
            directory=tmp_path,
            console=QUIET,
            extras=extras,
        )


def test_an_average_is_validated_and_kept_and_leaves_training_alone(tmp_path: Path) -> None:
    """Followed by hand with the weights that every step of a run without an average begins with."""
    plain, averaged = Toy.new(), Toy.new(ema=0.9)
    steps: list[np.ndarray] = []

    def flat(network: Net) -> np.ndarray:
        return np.concatenate([parameter.detach().flatten().double().numpy() for parameter in network.parameters()])

    def loss(rows: Rows) -> Tensor:
        steps.append(flat(plain.network))
        return Toy.loss(plain, rows)

    plain.loss = loss  # type: ignore[method-assign]
    without = plain.fit(tmp_path / "plain", validate=lambda: -1.0)
    expected = steps[0]
    for step, after in enumerate([*steps[1:], steps[-1]][: 8 * OPTIONS.epochs - 1], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * after
    seen: list[np.ndarray] = []

    def validate() -> float:
        seen.append(flat(averaged.network))
        return float(len(seen))

    report = averaged.fit(tmp_path / "averaged", validate=validate)
    assert [entry["loss"] for entry in report.history] == [entry["loss"] for entry in without.history]
    last = torch.load(tmp_path / "averaged" / "toy.pt", weights_only=True)
    own = np.concatenate([values.flatten().double().numpy() for values in last["network"].values()])
    decay = min(0.9, (1 + 48) / (10 + 48))
    np.testing.assert_allclose(flat(averaged.network), decay * expected + (1 - decay) * own, rtol=0, atol=1e-5)
    assert (flat(averaged.network) == seen[-1]).all()
    assert not np.allclose(own, seen[-1], atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path, bad: float) -> None:
    toy = Toy.new()
    plain, calls = toy.loss, 0

    def loss(rows: Rows) -> Tensor:
        nonlocal calls
        calls += 1
        return plain(rows) * (bad if calls == 12 else 1.0)

    toy.loss = loss  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"loss of toy must stay finite, got (nan|inf) in epoch 2\. .*--fp32"):
        toy.fit(tmp_path)
    state = torch.load(tmp_path / "toy.pt", weights_only=True)
    assert state["report"]["epochs"] == 1  # the last good epoch
    assert all(values.isfinite().all() for values in state["network"].values())


def test_learning_rate_warms_up_and_decays() -> None:
    schedule = _schedule(replace(OPTIONS, warmup_steps=10), 110)
    assert [schedule(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [schedule(step) for step in (10, 60, 110, 200)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    constant = _schedule(replace(OPTIONS, warmup_steps=0, cosine=False), 100)
    assert {constant(step) for step in range(200)} == {1.0}


def test_bf16_pays_where_the_hardware_computes_in_it() -> None:
    assert bf16_pays("cuda:0")
    processor = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in processor if line.startswith(("flags", "Features")))
    assert bf16_pays("cpu") == ("bf16" in flags)


def test_bf16_is_for_matrix_products_only() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with Runtime(bf16=True).forward_pass():
        assert layer(x).dtype == torch.bfloat16
    with Runtime(bf16=False).forward_pass():
        assert layer(x).dtype == torch.float32
    assert layer.weight.dtype == torch.float32
