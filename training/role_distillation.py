"""Stage 1 of SID-MLP++: a role-wise encoder learns the states of its teacher's (arXiv 2605.12617, section 3)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.networks.role_encoder import RoleEncoder
from models.networks.tiger import Tiger
from training.batches import PrefixExamples, history_batches, pad
from training.data.dataset import Instances
from training.distillation import TeacherStates

BATCH = 256


@dataclass(frozen=True)
class StateMatching:
    """The loss of the encoder: the mean squared error to the teacher's states over the real tokens of a batch."""

    encoder: RoleEncoder
    states: TeacherStates
    examples: PrefixExamples
    item_codes: Tensor

    def loss(self, rows: NDArray[np.int64]) -> Tensor:
        """Loss of the examples `rows`."""
        history = self.examples.take(rows)[0].to(self.item_codes.device)
        found, real = self.encoder(history, self.item_codes)
        expected = self.states.take(rows)[0]
        return F.mse_loss(found[real].float(), expected[real].float())


def explained_variance(
    encoder: RoleEncoder, teacher: Tiger, item_codes: Tensor, instances: Instances
) -> Callable[[], float]:
    """R² of the encoder as it is when called: the share of the variance of the teacher's states that it explains.

    The histories of `instances` are held out: training sees only shorter ones of these users.
    """
    longest, device = teacher.config.max_history, item_codes.device
    batches = [
        pad([instances.histories[i] for i in rows], longest) for rows in history_batches(instances.histories, BATCH)
    ]

    @torch.no_grad()
    def states(network: torch.nn.Module) -> Tensor:
        parts = (network(history.to(device), item_codes) for history in batches)
        return torch.cat([hidden[real].float() for hidden, real in parts])

    expected = states(teacher.encoder)
    spread = F.mse_loss(expected.mean(0).expand_as(expected), expected)
    return lambda: 1 - float(F.mse_loss(states(encoder), expected) / spread)
