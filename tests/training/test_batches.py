"""Batches against loops over sequences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.batches import CHUNK, PrefixExamples, history_batches, length_buckets, pad, sequence_batches

SEQUENCES = [np.array(items, dtype=np.int32) for items in ([5, 6, 7, 8], [9], [], [1, 2], [3, 3, 4, 4, 5, 5])]
sequences_of_items = st.lists(
    st.lists(st.integers(1, 9), max_size=7).map(lambda items: np.array(items, dtype=np.int32)), min_size=1, max_size=6
)


def prefixes(sequences: list[np.ndarray], longest: int) -> list[tuple[list[int], int]]:
    """Every (history, next item) in order."""
    return [
        (items[max(0, end - longest) : end], items[end])
        for items in (sequence.tolist() for sequence in sequences)
        for end in range(1, len(items))
    ]


def without_padding(row: torch.Tensor) -> list[int]:
    items = row.tolist()
    real = [item for item in items if item]
    assert items == real + [0] * (len(items) - len(real))  # left-aligned
    return real


@given(sequences_of_items, st.integers(1, 5))
def test_examples_are_all_prefixes(sequences: list[np.ndarray], longest: int) -> None:
    examples = PrefixExamples.of(sequences, longest)
    expected = prefixes(sequences, longest)
    assert len(examples) == len(expected)
    assert [(examples.history(i).tolist(), int(examples.targets[i])) for i in range(len(examples))] == expected


def test_take_is_a_loop() -> None:
    examples = PrefixExamples.of(SEQUENCES, longest=3)
    expected = prefixes(SEQUENCES, 3)
    rows = np.array([8, 0, 3, 3, 5])
    history, targets = examples.take(rows)
    assert history.shape == (5, 3)
    assert (history.dtype, targets.dtype) == (torch.int64, torch.int64)
    assert [(without_padding(h), t) for h, t in zip(history, targets.tolist(), strict=True)] == [
        expected[row] for row in rows
    ]


def test_an_epoch_holds_every_example_once_and_depends_on_the_seed() -> None:
    examples = PrefixExamples.of(SEQUENCES * 20, longest=3)

    def epoch(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in examples.epoch(16, np.random.default_rng(seed))]

    batches = epoch(0)
    assert sorted(row for batch in batches for row in batch) == list(range(len(examples)))
    assert max(map(len, batches)) == 16
    assert epoch(0) == batches
    assert epoch(1) != batches


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 40))
def test_length_buckets_are_a_permutation(lengths: list[int], batch_size: int) -> None:
    batches = length_buckets(np.array(lengths), batch_size, np.random.default_rng(0))
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    chunk = CHUNK * batch_size
    whole, rest = divmod(len(lengths), chunk)
    assert len(batches) == whole * CHUNK + -(-rest // batch_size)
    assert all(len(batch) <= batch_size for batch in batches)


def test_batches_hold_like_lengths_in_random_order() -> None:
    lengths = np.random.default_rng(1).integers(1, 51, 4000)
    batches = length_buckets(lengths, 40, np.random.default_rng(2))
    spread = [int(np.ptp(lengths[batch])) for batch in batches]
    assert np.mean(spread) < 3
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3  # not from short to long


@pytest.mark.parametrize("longest", [1, 2, 4])
def test_pad_keeps_the_last_items_on_the_left(longest: int) -> None:
    padded = pad(SEQUENCES, longest)
    assert padded.shape == (len(SEQUENCES), longest)
    assert [without_padding(row) for row in padded] == [s[-longest:].tolist() for s in SEQUENCES]
    assert pad([SEQUENCES[2]], longest).tolist() == [[0]]  # an empty history still has one position


@given(sequences_of_items, st.integers(1, 5), st.integers(1, 4))
def test_sequence_targets_are_the_inputs_shifted_by_one(
    sequences: list[np.ndarray], longest: int, batch_size: int
) -> None:
    usable = sorted(s[-(longest + 1) :].tolist() for s in sequences if len(s) > 1)
    batches = sequence_batches(sequences, longest, batch_size, np.random.default_rng(0))
    found = []
    for parts in batches:
        for inputs, targets in parts:
            assert inputs.shape == targets.shape
            assert 2 * (targets > 0).sum() > targets.numel()
            for history, following in zip(inputs, targets, strict=True):
                history, following = without_padding(history), without_padding(following)
                assert history[1:] == following[:-1]
                found.append([*history, following[-1]])
    assert sorted(found) == usable
    sizes = [sum(len(inputs) for inputs, _ in parts) for parts in batches]
    assert sizes == [min(batch_size, len(usable) - begin) for begin in range(0, len(usable), batch_size)]


def test_history_batches_are_sorted_by_length() -> None:
    batches = list(history_batches(SEQUENCES, 2))
    order = np.concatenate(batches).tolist()
    assert sorted(order) == list(range(len(SEQUENCES)))
    assert [len(SEQUENCES[i]) for i in order] == [0, 1, 2, 4, 6]
    assert [len(batch) for batch in batches] == [2, 2, 1]
