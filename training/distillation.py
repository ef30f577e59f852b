"""What SID-MLP learns from: the teacher's encoder states and logits, extracted once, and the loss over them.

The teacher is frozen, so one pass over the training examples yields everything it has to say; every epoch of the
student then costs a fraction of a TIGER epoch (arXiv 2605.12617, section 3.3).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from models.networks.role_encoder import RoleEncoder
from models.networks.sid_mlp import SidMlp
from models.networks.tiger import Tiger
from training.batches import PrefixExamples
from training.loop import Runtime

KL_SHARE = 0.7  # alpha of the paper
TEMPERATURE = 1.0  # tau of the paper
BATCH = 512


@dataclass(frozen=True)
class TeacherStates:
    """Encoder states of all training examples, flattened without padding, with the teacher's logits.

    Attributes:
        states: [tokens of all examples, d_model], bf16 or float32 as the run's matrix products.
        offsets: int64 [examples + 1], where each example's tokens begin.
        logits: likewise [examples, D, V], teacher-forced, sliced to the codes of each level.
        codes: int64 [examples, D], the codes of the targets.
    """

    states: Tensor
    offsets: Tensor
    logits: Tensor
    codes: Tensor

    @classmethod
    def extract(
        cls, teacher: Tiger, examples: PrefixExamples, item_codes: Tensor, runtime: Runtime, console: Console
    ) -> "TeacherStates":
        """Run the teacher over every example once."""
        config, device = teacher.config, item_codes.device
        dtype = torch.bfloat16 if runtime.bf16 else torch.float32
        lengths = torch.from_numpy(2 + config.levels * np.minimum(examples.ends, examples.longest))
        offsets = F.pad(lengths.cumsum(0), (1, 0)).to(device)
        states = torch.empty(int(offsets[-1]), config.d_model, dtype=dtype, device=device)
        shape = (len(examples), config.levels, config.codebook_size)
        logits = torch.empty(shape, dtype=dtype, device=device)
        codes = item_codes[torch.from_numpy(examples.targets).to(device)]
        for rows in _batches(offsets, "teacher states", console):
            with torch.no_grad(), runtime.forward_pass():
                history = examples.take(rows)[0].to(device)
                hidden, real = teacher.encoder(history, item_codes)
                predicted = teacher.decode(codes[rows][:, :-1], hidden, real)
            _store(states, offsets, rows, hidden)
            for level in range(config.levels):
                first = 1 + level * config.codebook_size
                logits[rows, level] = predicted[:, level, first : first + config.codebook_size].to(dtype)
        return cls(states, offsets, logits, codes)

    def read_by(
        self, encoder: RoleEncoder, examples: PrefixExamples, item_codes: Tensor, runtime: Runtime, console: Console
    ) -> "TeacherStates":
        """The same examples and logits over the states of the student's own encoder."""
        states = torch.empty_like(self.states)
        for rows in _batches(self.offsets, "student states", console):
            with torch.no_grad(), runtime.forward_pass():
                hidden, _ = encoder(examples.take(rows)[0].to(item_codes.device), item_codes)
            _store(states, self.offsets, rows, hidden)
        return replace(self, states=states)

    def take(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Padded states [B, T, d], real tokens [B, T], teacher logits [B, D, V] and target codes [B, D]."""
        chosen = torch.from_numpy(rows).to(self.states.device)
        index, inside = _token_index(self.offsets, chosen)
        return self.states[index], inside, self.logits[chosen], self.codes[chosen]


def _batches(offsets: Tensor, label: str, console: Console) -> Iterable[NDArray[np.int64]]:
    """All examples in batches of like length, with a progress bar."""
    order = np.argsort(offsets.diff().cpu().numpy(), kind="stable")
    batches = [order[begin : begin + BATCH] for begin in range(0, len(order), BATCH)]
    return track(batches, label, console=console)


def _store(states: Tensor, offsets: Tensor, rows: NDArray[np.int64], hidden: Tensor) -> None:
    """Write the states [B, T, d] of the examples `rows` to where they lie in `states`."""
    index, inside = _token_index(offsets, torch.from_numpy(rows).to(offsets.device))
    states[index[inside]] = hidden[:, : index.shape[1]][inside].to(states.dtype)


def _token_index(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tokens of each example lie [B, T], and which of them belong to it."""
    begin, end = offsets[rows, None], offsets[rows + 1, None]
    span = torch.arange(int((end - begin).max()), device=offsets.device)
    inside = span < end - begin
    return torch.where(inside, begin + span, 0), inside


@dataclass(frozen=True)
class Distillation:
    """The loss of a student: for each level alpha * KL(teacher || student) + (1 - alpha) * cross-entropy, summed."""

    teacher: Tiger
    student: SidMlp
    states: TeacherStates

    def loss(self, rows: NDArray[np.int64]) -> Tensor:
        """Loss of the examples `rows`, teacher-forced on the target's own codes."""
        states, real, teacher_logits, codes = self.states.take(rows)
        embedding = self.teacher.encoder.embedding.weight.detach()
        logits = self.student(states, real, codes[:, :-1], embedding).float()
        levels = logits.shape[1]
        divergence = F.kl_div(
            torch.log_softmax(logits / TEMPERATURE, -1).flatten(0, 1),
            torch.log_softmax(teacher_logits.float() / TEMPERATURE, -1).flatten(0, 1),
            log_target=True,
            reduction="batchmean",
        )
        likelihood = F.cross_entropy(logits.flatten(0, 1), codes.flatten())
        # Both are means over B * D rows; the paper sums over the D levels.
        total: Tensor = levels * (KL_SHARE * TEMPERATURE**2 * divergence + (1 - KL_SHARE) * likelihood)
        return total
