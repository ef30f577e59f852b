"""The one training loop: epochs, learning-rate schedule, early stopping, checkpoints, resume and progress.

A run that is interrupted and started again continues after its last finished epoch. On a CPU it ends with the
weights of an uninterrupted run: batches depend only on the seed and the epoch, and the state of the random generator
that drives dropout is saved.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.errors import TrainingError
from training.allocator import keep_freed_memory
from training.averaging import MovingAverage
from training.distributed import Workers

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class FitOptions:
    """How a network is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    cosine: bool = True  # decay to 0 over all epochs after the warm-up; else constant
    clip: float = 1.0
    patience: int = 10  # evaluations without a better validation score before stopping
    evaluate_every: int = 1  # epochs


@dataclass(frozen=True)
class Runtime:
    """Where a network is trained."""

    device: str = "cpu"
    bf16: bool = False  # where `bf16_pays`
    seed: int = 0

    @contextmanager
    def forward_pass(self) -> Iterator[None]:
        """bf16 matrix products where asked for; weights and sums stay in float32."""
        on_cpu = torch.device(self.device).type == "cpu"
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self.bf16))
            if on_cpu:  # the fused kernel's backward pass is slow for few queries
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield


def bf16_pays(device: str) -> bool:
    """Whether bf16 matrix products are faster than float32 ones on `device`: a GPU, or a CPU that has them built in.

    A CPU without them computes in float32 all the same and converts back and forth, at a seventh of the speed.
    """
    if torch.device(device).type != "cpu":
        return True
    return any(value is True for name, value in torch.cpu.get_capabilities().items() if "bf16" in name)


@dataclass
class FitReport:
    """What came out of a run; the network is left with its best weights."""

    name: str
    best_score: float = -math.inf
    best_epoch: int = 0
    epochs: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def total_minutes(reports: Iterable[FitReport]) -> float:
    """Minutes of all stages of a training."""
    return round(sum(report.seconds for report in reports) / 60, 1)


def fit(
    name: str,
    network: nn.Module,
    options: FitOptions,
    runtime: Runtime,
    *,
    epoch_batches: Callable[[np.random.Generator], Sequence[Batch]],
    loss: Callable[[Batch], Tensor],
    validate: Callable[[], float],
    directory: Path,
    console: Console,
    metric: str = "N@10",
    ema: float = 0.0,
    extras: Mapping[str, object] | None = None,
    share: Callable[[Batch, Workers], tuple[Batch, float]] | None = None,
) -> FitReport:
    """Train `network` (already on its device) and leave it with the weights of the best validation score.

    `metric` is the name of what `validate` returns, the higher the better. With a decay `ema` of the moving average of
    the weights, the averages are validated and kept. `extras` is what else makes this run differ from others, by name;
    a checkpoint with other extras is refused. `share` gives a process its part of a batch and the part's weight; with
    it, all processes that `torchrun` started must call this together.

    Raises:
        TrainingError: the loss is not finite, or the checkpoint in `directory` belongs to another configuration.
    """
    keep_freed_memory()
    steps = len(epoch_batches(np.random.default_rng((runtime.seed, 0))))
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=options.learning_rate, betas=options.betas, weight_decay=options.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(options, steps * options.epochs))
    workers = Workers.present() if share else Workers()
    average = MovingAverage(network, ema)
    parts = {"network": network, "optimizer": optimizer, "scheduler": scheduler}
    configuration = {**asdict(options), **asdict(runtime), **(extras or {})}
    if ema:  # left out where it is off: then the checkpoint is that of a run that knows no average
        parts["average"], configuration["ema"] = average, ema
    checkpoint = _Checkpoint(directory / f"{name}.pt", configuration, parts)
    torch.manual_seed(runtime.seed)
    report = checkpoint.resume(name)

    def step(batch: Batch) -> float:
        part, weight = share(batch, workers) if share else (batch, 1.0)
        with runtime.forward_pass():
            value = loss(part) * weight
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        value = workers.total(parameters, value)
        nn.utils.clip_grad_norm_(parameters, options.clip)
        optimizer.step()
        scheduler.step()
        average.update()
        return value.item()

    def assess() -> str:
        network.eval()
        with average.in_place():
            with torch.inference_mode(), runtime.forward_pass():
                score = workers.told(validate() if workers.main else 0.0, runtime.device)
            if score > report.best_score:
                report.best_score, report.best_epoch = score, report.epochs
                if workers.main:
                    checkpoint.keep_best(network)
        report.history[-1]["score"] = score
        return f"{metric} {score:.4f}, best {report.best_score:.4f}"

    with _progress(console) as progress:
        task = progress.add_task(name, total=options.epochs * steps, completed=report.epochs * steps, score="")
        while report.epochs < options.epochs and not _exhausted(report, options):
            started = time.perf_counter()
            network.train()
            workers.seed(runtime.seed, report.epochs)
            losses = []
            for batch in epoch_batches(np.random.default_rng((runtime.seed, report.epochs))):
                losses.append(step(batch))
                progress.advance(task)
            report.epochs += 1
            report.history.append({"epoch": float(report.epochs), "loss": _finite(losses, report)})
            if report.epochs % options.evaluate_every == 0 or report.epochs == options.epochs:
                scores = assess()
                progress.update(task, score=scores)
                if not console.is_terminal:  # a log file shows no bar until it is full
                    console.print(f"{name}: epoch {report.epochs} of {options.epochs}, {scores}")
            report.seconds += time.perf_counter() - started
            if workers.main:
                checkpoint.save(report)
    workers.wait()  # until the best weights are written
    checkpoint.restore_best(network)
    network.eval()
    console.print(
        f"{name}: best validation {metric} {report.best_score:.4f} at epoch {report.best_epoch} of {report.epochs}, "
        f"{report.seconds / 60:.1f} min"
    )
    return report


def _finite(losses: Sequence[float], report: FitReport) -> float:
    """The mean loss of an epoch."""
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise TrainingError(
            f"the loss of {report.name} must stay finite, got {mean} in epoch {report.epochs}. "
            "Lower the learning rate or train with --fp32."
        )
    return mean


def _schedule(options: FitOptions, total: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < options.warmup_steps:
            return (step + 1) / options.warmup_steps
        if not options.cosine:
            return 1.0
        done = (step - options.warmup_steps) / max(1, total - options.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return factor


def _exhausted(report: FitReport, options: FitOptions) -> bool:
    return report.epochs - report.best_epoch >= options.patience * options.evaluate_every and report.best_epoch > 0


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[score]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


class _Checkpoint:
    """The state of a run on disk, written whole after every epoch."""

    def __init__(self, path: Path, configuration: Mapping[str, object], parts: Mapping[str, Any]) -> None:
        self.path, self.best_path = path, path.with_suffix(".best.pt")
        self.configuration = json.dumps(configuration, sort_keys=True)
        self.parts = parts

    def save(self, report: FitReport) -> None:
        state = {
            "configuration": self.configuration,
            **{name: part.state_dict() for name, part in self.parts.items()},
            "random": torch.get_rng_state(),
            "report": asdict(report),
        }
        _write(self.path, state)

    def keep_best(self, network: nn.Module) -> None:
        _write(self.best_path, network.state_dict())

    def restore_best(self, network: nn.Module) -> None:
        network.load_state_dict(torch.load(self.best_path, weights_only=True))

    def resume(self, name: str) -> FitReport:
        if not self.path.exists():
            return FitReport(name)
        state = torch.load(self.path, weights_only=True)
        if state["configuration"] != self.configuration:
            raise TrainingError(
                f"{self.path} belongs to a run with another configuration ({state['configuration']}). "
                "Train with the same options, or with --fresh, or into another --work folder."
            )
        for part, held in self.parts.items():
            held.load_state_dict(state[part])
        torch.set_rng_state(state["random"])
        return FitReport(**state["report"])


def _write(path: Path, state: object) -> None:
    """Write beside the file and rename, so that a kill in the middle leaves the old file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)
