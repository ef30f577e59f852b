"""TIGER on whole sequences: every step of a user is learned from one pass over their items.

The published recipe reads a user's history once for each of its prefixes, so that an item is encoded as often as items
follow it. Here the encoder is causal between items: the tokens of an item see one another and all before them, and the
target that follows sees the states of the items before it. One pass then holds what all prefixes would, for a
fraction of the tokens. The weights are those of TIGER itself, which sees a history in both directions; training on
prefixes must follow, and goes on from here (`train_tiger`).

Shapes: `B` batch, `L` targets of a window, `D` levels, `T` = 1 + L * D encoder tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.networks.dropout import dropout
from models.networks.tiger import Tiger
from training.batches import Sequences, history_batches, length_buckets, pad
from training.data.dataset import Instances

HIDDEN = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class Windows:
    """Stretches of the training sequences that together predict every item but the first of each sequence once.

    A target has at most the given number of items before it, and at least half as many where its sequence does.
    """

    sequences: Sequences
    rows: NDArray[np.int64]  # which sequence
    begins: NDArray[np.int64]  # position of the first item in it
    targets: NDArray[np.int64]  # position of the first target
    ends: NDArray[np.int64]  # position after the last target

    @classmethod
    def of(cls, sequences: Sequences, longest: int) -> "Windows":
        """Windows whose histories have at most `longest` items."""
        step = max(1, longest // 2)
        found = []
        for row, sequence in enumerate(sequences):
            target = 1
            while target < len(sequence):
                begin = max(0, target - step)
                end = min(len(sequence), begin + longest + 1)
                found.append((row, begin, target, end))
                target = end
        return cls(sequences, *np.array(found, dtype=np.int64).reshape(-1, 4).T)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Targets of each window."""
        return self.ends - self.targets

    def epoch(self, batch_size: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """Batches of windows of like length that have about `batch_size` targets each.

        Batches are cut by targets and not by windows, as a step averages over its targets: each has the same weight.
        """
        return length_buckets(self.ends - self.begins, batch_size, random, self.counts)

    def take(self, windows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Items [B, L + 1], 0-padded on the right, and which of the last L are targets [B, L] (bool)."""
        stretches = [self.sequences[self.rows[i]][self.begins[i] : self.ends[i]] for i in windows]
        items = pad(stretches, max(len(stretch) for stretch in stretches))
        position = torch.arange(1, items.shape[1])
        first = torch.from_numpy((self.targets - self.begins)[windows])
        return items, (items[:, 1:] > 0) & (position >= first[:, None])


def whole_logits(network: Tiger, items: Tensor, wanted: Tensor, item_codes: Tensor) -> Tensor:
    """Logits [n, D, vocabulary] of the `wanted` [B, L] (bool) of the items that follow each of `items` [B, L + 1]."""
    config, rate, training = network.config, network.config.dropout, network.training
    states = _causal_states(network, items[:, :-1], item_codes)
    targets = item_codes[items[:, 1:]]  # B, L, D
    batch, length, levels = targets.shape
    start = torch.zeros_like(targets[..., :1])
    tokens = torch.cat([start, network.code_tokens(targets[..., :-1])], dim=-1)
    x = dropout(network.encoder.embedding(tokens.flatten(1)), rate, training)
    causal = torch.full((levels, levels), HIDDEN, device=items.device).triu(1)
    bias = (network.decoder.position_bias(levels) + causal)[None]
    step = torch.arange(1, length + 1, device=items.device).repeat_interleave(levels)
    cross_bias = _seen(step, _owners(length, levels, items.device))[None, None]
    for block in network.decoder.blocks:
        prefix = x.view(batch * length, levels, config.d_model)
        normed = block.attention.norm(prefix)
        prefix = prefix + block.attention.attend(normed, *block.attention.keys_values(normed), bias)
        x = block.after_self(prefix.view(x.shape), *block.cross.keys_values(states), cross_bias)
    hidden = dropout(network.decoder.norm(x), rate, training)
    return network.output(hidden.view(batch, length, levels, -1)[wanted])


def whole_loss(network: Tiger, items: Tensor, wanted: Tensor, item_codes: Tensor) -> Tensor:
    """Mean cross-entropy a code, over the `wanted` [B, L] targets among the items [B, L + 1]."""
    codes = item_codes[items[:, 1:][wanted]]
    logits = whole_logits(network, items, wanted, item_codes).float()
    return F.cross_entropy(logits.flatten(0, 1), network.code_tokens(codes).flatten())


def likelihood_validator(network: Tiger, instances: Instances, item_codes: Tensor) -> Callable[[], float]:
    """Mean log-likelihood an item of the targets after their histories, of the network as it is when called."""
    longest, device = network.config.max_history, item_codes.device
    sequences = [
        np.append(history[-longest:], target)
        for history, target in zip(instances.histories, instances.targets, strict=True)
    ]

    def validate() -> float:
        total = 0.0
        for rows in history_batches(sequences, 256):
            items = pad([sequences[i] for i in rows], longest + 1).to(device)
            length = (items > 0).sum(dim=1)
            wanted = torch.arange(1, items.shape[1], device=device) == length[:, None] - 1
            total += whole_loss(network, items, wanted, item_codes).item() * len(rows)
        return -total * item_codes.shape[1] / len(sequences)

    return validate


def _causal_states(network: Tiger, history: Tensor, item_codes: Tensor) -> Tensor:
    """States [B, T, d_model] of the user's token and the codes of `history` [B, L], blind to later items."""
    encoder, rate = network.encoder, network.config.dropout
    tokens, _ = encoder.tokens(history, item_codes)
    owners = _owners(history.shape[1], network.config.levels, history.device)
    tokens = tokens[:, :-1]  # without the end of the history, which every prefix has somewhere else
    x = dropout(encoder.embedding(tokens), rate, network.training)
    bias = encoder.position_bias(tokens.shape[1], x) + _seen(owners, owners)
    for block in encoder.blocks:
        x = block(x, bias)
    return dropout(encoder.norm(x), rate, network.training)


def _owners(items: int, levels: int, device: torch.device) -> Tensor:
    """The item, counted from 1, that each encoder token [T] belongs to; 0 for the user's."""
    counted = torch.arange(1, items + 1, device=device).repeat_interleave(levels)
    return torch.cat([counted.new_zeros(1), counted])


def _seen(queries: Tensor, keys: Tensor) -> Tensor:
    """Additive bias [queries, keys]: an item number of `queries` sees those of `keys` that are not greater."""
    return torch.where(keys[None, :] <= queries[:, None], 0.0, HIDDEN)
