"""The exponential moving average of a network's weights (Polyak and Juditsky, 1992), taken while it trains."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """Follows the parameters of a network: average += (1 - decay) * (weights - average), once a step.

    The decay grows with the steps, min(decay, (1 + n) / (10 + n)), so that the initial weights are forgotten early.
    A decay of 0 turns it off: it holds nothing and changes nothing.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay, self._steps = decay, 0
        self._weights: list[Tensor] = list(network.parameters()) if decay else []
        self._averages = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step in."""
        if self._weights:
            self._steps += 1
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
            torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averages for weights inside, and its own again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """What an interrupted run needs to go on."""
        return {"steps": self._steps, "averages": self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._steps = state["steps"]
        for average, stored in zip(self._averages, state["averages"], strict=True):
            average.copy_(stored)

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self._weights, self._averages, strict=True):
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)
