"""Training TIGER in several processes, as `torchrun` starts them.

Every process holds the whole network and takes a slice of every batch. Gradients are summed before each step, weighted
by rows, so that all processes take the step that one would take with the whole batch. The main process alone validates,
writes and prints, and does everything but TIGER's training; the others only help there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

WAIT = timedelta(days=2)  # the others wait while the main process trains what it trains alone


@dataclass(frozen=True)
class Workers:
    """This process and how many there are; by default it is alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> "Workers":
        """Those that `joined` has brought together."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def main(self) -> bool:
        """Whether this process is the one that validates, writes and prints."""
        return self.rank == 0

    def share(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], float]:
        """This process's part of `rows`, and the part's weight in the mean over all of them."""
        part = np.array_split(rows, self.size)[self.rank]
        # A loss needs a row; one of weight 0 changes nothing.
        return (part, len(part) / len(rows)) if len(part) else (rows[:1], 0.0)

    def total(self, parameters: Sequence[Tensor], loss: Tensor) -> Tensor:
        """Sum the gradients of `parameters` over the processes in place, and return the sum of the weighted losses."""
        if self.size == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), loss.detach().reshape(1)])
        distributed.all_reduce(flat)
        for gradient, summed in zip(gradients, torch.split(flat[:-1], [g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))
        return flat[-1]

    def told(self, value: float, device: str) -> float:
        """The main process's `value`, in all of them."""
        if self.size == 1:
            return value
        held = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.broadcast(held, src=0)
        return float(held)

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def seed(self, seed: int, epoch: int) -> None:
        """Give the dropout of the others draws of their own; the main process keeps those of a process alone."""
        if not self.main:
            torch.manual_seed(int(np.random.default_rng((seed, epoch, self.rank)).integers(2**62)))


@contextmanager
def joined(device: str) -> Iterator[Workers]:
    """The processes that `torchrun` started with this one; without it, this one alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Workers()
        return
    on_cpu = torch.device(device).type == "cpu"
    if not on_cpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # the one that "cuda" means
    distributed.init_process_group("gloo" if on_cpu else "nccl", timeout=WAIT)
    try:
        yield Workers.present()
    finally:
        distributed.destroy_process_group()
