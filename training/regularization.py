"""What may be added to the published recipe of TIGER against overfitting; all of it is off by default."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.networks.tiger import Tiger


@dataclass(frozen=True)
class Regularization:
    """0 leaves each of them out."""

    label_smoothing: float = 0.0  # of the target's probability, spread evenly over the codes of its level
    history_dropout: float = 0.0  # share of the items of a history that training leaves out
    ema: float = 0.0  # decay a step of the moving average of the weights, which replaces them in the end


PLAIN = Regularization()


def drop_items(history: Tensor, rate: float) -> Tensor:
    """A left-aligned, 0-padded history [B, L] without a random share of its items; a history never becomes empty."""
    if rate == 0:
        return history
    real = history > 0
    kept = real & (torch.rand(history.shape, device=history.device) >= rate)
    kept |= real & ~kept.any(dim=1, keepdim=True)
    order = torch.argsort(~kept, dim=1, stable=True)
    return torch.where(kept, history, 0).gather(1, order)


def smoothed_loss(network: Tiger, logits: Tensor, codes: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy over the whole vocabulary of `logits` [B, D, vocabulary] against target `codes` [B, D].

    With label smoothing, the target is (1 - smoothing) of the code and the rest over all codes of its level: tokens
    that cannot stand there keep probability 0.
    """
    likelihood = F.cross_entropy(logits.flatten(0, 1), network.code_tokens(codes).flatten())
    if smoothing == 0:
        return likelihood
    levels = torch.stack([network.level_of(logits[:, level], level) for level in range(codes.shape[1])], dim=1)
    spread = logits.logsumexp(dim=-1).mean() - levels.mean()
    return (1 - smoothing) * likelihood + smoothing * spread
