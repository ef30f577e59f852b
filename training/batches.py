"""Batches of training examples and of histories; those of single examples are bucketed by length to pad little."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.histories import pad as histories_as_array

Sequences = Sequence[NDArray[np.int32]]
CHUNK = 50  # batches shuffled together before they are sorted by length


def pad(histories: Sequences, longest: int) -> Tensor:
    """`models.histories.pad` as a tensor."""
    return torch.from_numpy(histories_as_array(histories, longest))


def length_buckets(
    lengths: NDArray[np.int64], batch_size: int, random: np.random.Generator, sizes: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Random batches of positions whose lengths are alike: shuffle, sort inside chunks, cut, shuffle the batches.

    A batch has `batch_size` positions; where positions have `sizes` [n], about as many as add up to it.
    """
    sizes = np.ones_like(lengths) if sizes is None else sizes
    order, batches = random.permutation(len(lengths)), []
    step = CHUNK * max(1, round(batch_size / sizes.mean())) if len(sizes) else 1
    for begin in range(0, len(order), step):
        chunk = order[begin : begin + step]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batch = (np.cumsum(sizes[chunk]) - 1) // batch_size
        batches += np.split(chunk, np.flatnonzero(np.diff(batch)) + 1)
    return [batches[i] for i in random.permutation(len(batches))]


@dataclass(frozen=True)
class PrefixExamples:
    """Every (history, next item) of the training sequences: the examples of a generative model."""

    sequences: Sequences
    rows: NDArray[np.int64]  # which sequence
    ends: NDArray[np.int64]  # position of the target in it; the history is what lies before
    longest: int

    @classmethod
    def of(cls, sequences: Sequences, longest: int) -> "PrefixExamples":
        """All prefixes of at least one item, histories cut to their last `longest` items."""
        rows = np.concatenate([np.full(max(0, len(s) - 1), i) for i, s in enumerate(sequences)])
        ends = np.concatenate([np.arange(1, max(1, len(s))) for s in sequences])
        return cls(sequences, rows.astype(np.int64), ends.astype(np.int64), longest)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> NDArray[np.int64]:
        """The target item index of every example."""
        pairs = zip(self.rows, self.ends, strict=True)
        return np.fromiter((self.sequences[r][e] for r, e in pairs), dtype=np.int64, count=len(self))

    def history(self, example: int) -> NDArray[np.int32]:
        """The history of one example."""
        end = int(self.ends[example])
        sequence: NDArray[np.int32] = self.sequences[int(self.rows[example])]
        return sequence[max(0, end - self.longest) : end]

    def take(self, examples: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Histories [B, L] and targets [B] of these examples."""
        histories = [self.history(int(example)) for example in examples]
        targets = [int(self.sequences[self.rows[i]][self.ends[i]]) for i in examples]
        return pad(histories, self.longest), torch.tensor(targets)

    def epoch(self, batch_size: int, random: np.random.Generator) -> list[NDArray[np.int64]]:
        """One epoch of batches of example numbers."""
        return length_buckets(np.minimum(self.ends, self.longest), batch_size, random)


def sequence_batches(
    sequences: Sequences, longest: int, batch_size: int, random: np.random.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Inputs and next-item targets (both [B, L], 0 = padding) for training at every position.

    Not bucketed by length: a step averages over the positions of its batch, so a batch of short sequences would give
    each of their positions many times the weight of one in a long sequence (docs/LOG.md has what that costs).
    """
    usable = [s[-(longest + 1) :] for s in sequences if len(s) > 1]
    order = random.permutation(len(usable))
    batches = []
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        batches.append((pad([usable[i][:-1] for i in rows], longest), pad([usable[i][1:] for i in rows], longest)))
    return batches


def history_batches(histories: Sequences, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Positions of `histories` in batches of like length, for evaluation."""
    order = np.argsort([len(history) for history in histories], kind="stable")
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]
