"""Batches of training examples and of histories, with little padding."""

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


SequenceBatch = list[tuple[Tensor, Tensor]]
"""Parts of a batch, each inputs and next-item targets, both [B, L], 0 = padding."""


def sequence_batches(
    sequences: Sequences, longest: int, batch_size: int, random: np.random.Generator
) -> list[SequenceBatch]:
    """Batches of sequences of any lengths, for training at every position; their parts are of like lengths.

    A step averages over the positions of its batch, so a batch of short sequences would give each of their positions
    many times the weight of one in a long sequence (docs/LOG.md has what that costs). Parts only avoid padding: lengths
    in one part have the same number of binary digits, so that more than half of its positions are real.
    """
    usable = [s[-(longest + 1) :] for s in sequences if len(s) > 1]
    digits = np.array([(len(s) - 1).bit_length() for s in usable])
    order = random.permutation(len(usable))
    batches = []
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        parts = [[usable[i] for i in rows[digits[rows] == size]] for size in np.unique(digits[rows])]
        batches.append([(pad([s[:-1] for s in part], longest), pad([s[1:] for s in part], longest)) for part in parts])
    return batches


def history_batches(histories: Sequences, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Positions of `histories` in batches of like length, for evaluation."""
    order = np.argsort([len(history) for history in histories], kind="stable")
    for begin in range(0, len(order), batch_size):
        yield order[begin : begin + batch_size]
