"""TIGER on whole sequences: one pass gives what a pass a step would, and windows lose no target."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.networks.tiger import Tiger, TigerConfig
from training.batches import Sequences
from training.data.dataset import Instances
from training.whole_sequences import Windows, likelihood_validator, whole_logits, whole_loss

ITEMS, LEVELS = 30, 3


@pytest.fixture
def network() -> Tiger:
    torch.manual_seed(0)
    config = TigerConfig(levels=LEVELS, codebook_size=16, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=2)
    return Tiger(config).eval()


@pytest.fixture
def item_codes() -> Tensor:
    codes = np.random.default_rng(0).integers(0, 16, (ITEMS + 1, LEVELS))
    return torch.from_numpy(codes)


@pytest.fixture
def sequences() -> Sequences:
    random = np.random.default_rng(1)
    return [random.integers(1, ITEMS + 1, n).astype(np.int32) for n in (1, 2, 5, 21, 22, 40, 73)]


@torch.inference_mode()
def test_one_pass_gives_what_a_pass_for_each_step_gives(network: Tiger, item_codes: Tensor) -> None:
    items = torch.tensor([[3, 7, 1, 9, 4], [5, 2, 8, 0, 0]])
    wanted = items[:, 1:] > 0
    together = whole_logits(network, items, wanted, item_codes)
    alone = []
    for row, length in ((0, 5), (1, 3)):
        for end in range(2, length + 1):
            prefix = items[row : row + 1, :end]
            last = torch.zeros(1, end - 1, dtype=torch.bool)
            last[0, -1] = True
            alone.append(whole_logits(network, prefix, last, item_codes))
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_step_depends_on_all_items_before_it_and_on_none_after(network: Tiger, item_codes: Tensor) -> None:
    items = torch.tensor([[3, 7, 1, 9, 4]])
    third = torch.tensor([[False, False, True, False]])
    before = whole_logits(network, items, third, item_codes)
    for position, counts in ((0, True), (1, True), (2, True), (4, False)):
        other = items.clone()
        other[0, position] = 20
        assert torch.equal(before, whole_logits(network, other, third, item_codes)) != counts


@torch.inference_mode()
def test_the_first_step_is_close_to_that_of_a_history_without_its_end(network: Tiger, item_codes: Tensor) -> None:
    """With one item, the only differences to TIGER's own pass are the token of the end and the user's blindness."""
    items, wanted = torch.tensor([[3, 7]]), torch.ones(1, 1, dtype=torch.bool)
    one_pass = whole_logits(network, items, wanted, item_codes)
    own = network(items[:, :1], items[:, 1], item_codes)
    assert one_pass.shape == own.shape
    assert torch.corrcoef(torch.stack([one_pass.flatten(), own.flatten()]))[0, 1] > 0.9


def test_windows_predict_every_item_but_the_first_once(sequences: Sequences) -> None:
    windows = Windows.of(sequences, 20)
    found = []
    for row, begin, target, end in zip(windows.rows, windows.begins, windows.targets, windows.ends, strict=True):
        for position in range(target, end):
            assert min(position, 10) <= position - begin <= 20
            found.append((row, position))
    expected = [(row, position) for row, s in enumerate(sequences) for position in range(1, len(s))]
    assert sorted(found) == expected


def test_an_epoch_takes_every_window_once_in_batches_of_like_size(sequences: Sequences) -> None:
    windows = Windows.of([*sequences] * 20, 20)
    batches = windows.epoch(64, np.random.default_rng(0))
    assert sorted(np.concatenate(batches)) == list(range(len(windows)))
    targets = [int(windows.take(batch)[1].sum()) for batch in batches]
    assert sum(targets) == 20 * sum(len(s) - 1 for s in sequences)
    assert max(targets) <= 64 + 20


def test_a_batch_marks_only_its_own_targets(sequences: Sequences) -> None:
    windows = Windows.of(sequences, 20)
    items, wanted = windows.take(np.arange(len(windows)))
    for number in range(len(windows)):
        row, target, end = windows.rows[number], windows.targets[number], windows.ends[number]
        assert items[number, 1:][wanted[number]].tolist() == sequences[row][target:end].tolist()


@torch.inference_mode()
def test_the_validation_is_the_likelihood_of_the_targets(network: Tiger, item_codes: Tensor) -> None:
    histories = [np.array(h, dtype=np.int32) for h in ([3, 7, 1], [5], [2, 8])]
    targets = np.array([9, 4, 6], dtype=np.int32)
    validate = likelihood_validator(network, Instances(np.arange(3), histories, targets), item_codes)
    total = 0.0
    for history, target in zip(histories, targets, strict=True):
        items = torch.tensor([[*history, target]])
        wanted = torch.tensor([[False] * (len(history) - 1) + [True]])
        total -= whole_loss(network, items, wanted, item_codes).item() * LEVELS
    assert validate() == pytest.approx(total / 3, rel=1e-4)
