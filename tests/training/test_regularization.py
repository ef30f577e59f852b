"""Label smoothing and history dropout against loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.networks.tiger import Tiger, TigerConfig
from training.regularization import drop_items, smoothed_loss

CONFIG = TigerConfig(
    levels=3, codebook_size=5, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothing_spreads_over_the_codes_of_the_level(smoothing: float) -> None:
    torch.manual_seed(0)
    network = Tiger(CONFIG)
    logits = torch.randn(7, 3, CONFIG.vocabulary)
    codes = torch.randint(0, 5, (7, 3))
    losses = []
    for example in range(7):
        for level in range(3):
            target = torch.zeros(CONFIG.vocabulary)
            first = 1 + level * 5
            target[first : first + 5] = smoothing / 5
            target[first + codes[example, level]] += 1 - smoothing
            losses.append(F.cross_entropy(logits[example, level], target))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(smoothed_loss(network, logits, codes, smoothing), expected)


def test_dropped_items_leave_the_others_in_order() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    history = torch.zeros(2000, 8, dtype=torch.int64)
    for row in history:
        length = int(random.integers(1, 9))
        row[:length] = torch.from_numpy(random.permutation(100)[:length] + 1)
    dropped = drop_items(history, 0.3)
    assert dropped.shape == history.shape
    kept = 0
    for before, after in zip(history.tolist(), dropped.tolist(), strict=True):
        items = [item for item in after if item]
        assert items == [item for item in before if item in items]  # a subsequence, without repeats
        assert after[: len(items)] == items  # left-aligned
        assert items
        kept += len(items)
    long = history[:, 3] > 0  # of which hardly any lost all items, and had them given back
    share = (dropped[long] > 0).sum() / (history[long] > 0).sum()
    assert share.item() == pytest.approx(0.7, abs=0.02)
    assert kept < int((history > 0).sum())


def test_a_history_that_would_be_empty_stays_whole() -> None:
    torch.manual_seed(0)
    history = torch.tensor([[4, 9, 2, 0], [7, 0, 0, 0]])
    assert torch.equal(drop_items(history, 1.0), history)
    assert drop_items(history, 0.0) is history
