"""What the networks promise to training: causality, padding, token layout, dropout and T5's buckets."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.t5.modeling_t5 import T5Attention

from models.networks.dropout import dropout
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import ContextCapture, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig, relative_bucket

ITEMS = 30


@pytest.fixture(scope="module")
def sasrec() -> SASRec:
    torch.manual_seed(0)
    network = SASRec(SASRecConfig(ITEMS, d_model=16, layers=2, heads=2, d_ff=32, max_history=12)).eval()
    for parameter in network.parameters():  # the initial weights are too small to tell anything apart
        nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def tiger() -> Tiger:
    torch.manual_seed(0)
    config = TigerConfig(
        levels=3, codebook_size=5, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1
    )
    return Tiger(config).eval()


def test_sasrec_ignores_padding_on_the_right(sasrec: SASRec) -> None:
    alone = sasrec(torch.tensor([[4, 9, 2]]))
    padded = sasrec(torch.tensor([[4, 9, 2, 0, 0, 0], [7, 7, 7, 7, 7, 7]]))
    torch.testing.assert_close(padded[:1], alone)
    assert not torch.allclose(sasrec(torch.tensor([[4, 9, 2, 1]])), alone, atol=0.01)


def test_sasrec_is_causal(sasrec: SASRec) -> None:
    history = torch.randint(1, ITEMS + 1, (1, 10), generator=torch.Generator().manual_seed(1))
    before = sasrec.hidden(history)
    for position in range(10):
        changed = history.clone()
        changed[0, position] = changed[0, position] % ITEMS + 1
        after = sasrec.hidden(changed)
        torch.testing.assert_close(after[:, :position], before[:, :position])
        moved = (after - before).abs().amax(-1)[0, position:]
        assert (moved > 1e-4).all()  # and every position from there on sees it


def test_sasrec_scores_with_the_item_embeddings(sasrec: SASRec) -> None:
    history = torch.tensor([[3, 1, 8]])
    hidden = sasrec.hidden(history)[0, -1]
    expected = torch.stack([hidden @ sasrec.items.weight[item] for item in range(1, ITEMS + 1)])
    torch.testing.assert_close(sasrec(history)[0], expected)


def test_sasrec_drops_attention_in_training_only(sasrec: SASRec) -> None:
    history = torch.tensor([[3, 1, 8, 22]])
    network = with_options(sasrec, dropout=0.0, attention_dropout=0.5)
    assert torch.equal(network.hidden(history), sasrec.hidden(history))
    network.train()
    torch.manual_seed(0)
    one, other = network.hidden(history), network.hidden(history)
    assert (one - other).abs().max() > 0.01
    torch.manual_seed(0)
    assert torch.equal(network.hidden(history), one)


def test_sasrec_attends_to_the_same_with_and_without_attention_dropout(sasrec: SASRec) -> None:
    """A rate that rounds to none takes the way of attention dropout and drops nothing."""
    history = torch.tensor([[3, 1, 8, 22, 9], [5, 6, 0, 0, 0]])
    network = with_options(sasrec, dropout=0.0, attention_dropout=0.001).train()
    torch.testing.assert_close(network.hidden(history), sasrec.hidden(history))


def test_sasrec_with_default_rates_draws_for_plain_dropout_alone(sasrec: SASRec) -> None:
    """No residual rate is the rate of the embeddings, and no attention dropout draws no random number."""
    history = torch.tensor([[3, 1, 8, 22]])
    rates: tuple[dict[str, Any], ...] = ({}, {"residual_dropout": 0.3, "attention_dropout": 0.0})
    found = []
    for extra in rates:
        network = with_options(sasrec, dropout=0.3, **extra).train()
        torch.manual_seed(0)
        found.append((network.hidden(history), torch.get_rng_state()))
    torch.manual_seed(0)
    words = 4 * 16 // 8  # random words of a dropout of 4 positions
    torch.empty(words * (1 + 2 * 2), dtype=torch.int64).random_(-(2**63), None)  # of the input, and two a block
    for hidden, state in found:
        assert torch.equal(hidden, found[0][0])
        assert torch.equal(state, torch.get_rng_state())


def test_sasrec_may_drop_embeddings_alone_or_residuals_alone(sasrec: SASRec) -> None:
    history = torch.tensor([[3, 1, 8, 22]])
    alone = with_options(sasrec, dropout=0.5, residual_dropout=0.0, layers=0).train()
    assert not torch.equal(alone.hidden(history), alone.hidden(history))
    blocks = with_options(sasrec, dropout=0.5, residual_dropout=0.0).blocks
    for block in blocks:
        x = torch.randn(1, 4, 16)
        assert torch.equal(block.train()(x), block.eval()(x))
    residuals = with_options(sasrec, dropout=0.0, residual_dropout=0.5).train()
    assert not torch.equal(residuals.hidden(history), residuals.hidden(history))


def with_options(sasrec: SASRec, **options: Any) -> SASRec:
    """The same weights, as far as they go, under other options."""
    network = SASRec(replace(sasrec.config, **options)).eval()
    network.load_state_dict(sasrec.state_dict(), strict=False)
    return network


def test_tiger_tokens(tiger: Tiger) -> None:
    """User, the codes of each item shifted to their level, end, padding."""
    codes = torch.tensor([[0, 0, 0], [4, 0, 2], [1, 1, 1], [3, 4, 0]])
    history = torch.tensor([[3, 1], [2, 0], [0, 0]])
    tokens, real = tiger.encoder.tokens(history, codes)
    user, end = 16, 17
    assert tokens.tolist() == [
        [user, 4, 10, 11, 5, 6, 13, end],
        [user, 2, 7, 12, end, 0, 0, 0],
        [user, end, 0, 0, 0, 0, 0, 0],
    ]
    assert real.sum(1).tolist() == [8, 5, 2]
    assert torch.equal(real, tokens > 0)
    assert tiger.config.vocabulary == 18 == tiger.encoder.embedding.num_embeddings


def test_tiger_ignores_padding_on_the_right(tiger: Tiger) -> None:
    codes = torch.randint(0, 5, (ITEMS + 1, 3), generator=torch.Generator().manual_seed(2))
    alone = tiger(torch.tensor([[3, 1]]), torch.tensor([5]), codes)
    padded = tiger(torch.tensor([[3, 1, 0, 0], [6, 7, 8, 9]]), torch.tensor([5, 5]), codes)
    torch.testing.assert_close(padded[:1], alone, rtol=0, atol=1e-5)
    assert not torch.allclose(padded[:1], padded[1:], atol=1e-3)


def test_tiger_sees_only_the_codes_before(tiger: Tiger) -> None:
    codes = torch.zeros(3, 3, dtype=torch.int64)
    codes[1], codes[2] = torch.tensor([1, 2, 3]), torch.tensor([1, 4, 3])
    history = torch.tensor([[1], [1]])
    first, second = tiger(history, torch.tensor([1, 2]), codes)
    torch.testing.assert_close(first[:2], second[:2])  # logits of levels 1 and 2 know at most the first code
    assert not torch.allclose(first[2], second[2], atol=1e-3)


def test_tiger_trains_with_the_attention_it_serves_with(tiger: Tiger) -> None:
    """Training on a CPU takes the products apart; loss and gradients are those of the one operator."""
    codes = torch.randint(0, 5, (ITEMS + 1, 3), generator=torch.Generator().manual_seed(2))
    history, target = torch.tensor([[3, 1, 0, 0], [6, 7, 8, 9]]), torch.tensor([5, 6])
    network = Tiger(replace(tiger.config, dropout=0.0))
    network.load_state_dict(tiger.state_dict())
    found = []
    for training in (True, False):
        network.train(training).zero_grad()
        logits = network(history, target, codes)
        F.cross_entropy(logits.flatten(0, 1), network.code_tokens(codes[target]).flatten()).backward()
        found.append([logits, *(parameter.grad for parameter in network.parameters())])
    for trained, served in zip(*found, strict=True):
        torch.testing.assert_close(trained, served, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (16, 40), (32, 1000)])
def test_buckets_are_those_of_hugging_face(bidirectional: bool, buckets: int, max_distance: int) -> None:
    relative = torch.arange(-2000, 2001)
    ours = relative_bucket(relative, bidirectional=bidirectional, buckets=buckets, max_distance=max_distance)
    theirs = T5Attention._relative_position_bucket(relative, bidirectional, buckets, max_distance)
    assert torch.equal(ours, theirs)
    assert len(ours.unique()) == buckets - (1 if bidirectional else 0)  # +0 and -0 share one


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_dropout_zeroes_its_share_and_keeps_the_expectation(rate: float) -> None:
    torch.manual_seed(0)
    x = torch.full((1001, 333), 3.0)  # a number of elements that is no multiple of eight
    out = dropout(x, rate, training=True)
    assert out.shape == x.shape
    assert (out == 0).float().mean().item() == pytest.approx(rate, abs=0.004)
    assert out.mean().item() == pytest.approx(3.0, rel=0.005)
    assert out[out > 0].unique().tolist() == [pytest.approx(3 / (1 - round(rate * 256) / 256))]


def test_dropout_is_independent_between_elements() -> None:
    """Eight elements share one random word; neighbours must not share their fate."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(80_000), 0.5, training=True) > 0).float().view(-1, 8)
    likeness = np.corrcoef(kept.T.numpy()) - np.eye(8)
    assert np.abs(likeness).max() < 0.05
    assert (kept.mean(0) - 0.5).abs().max() < 0.03


def test_dropout_does_nothing_outside_training_or_at_rate_0() -> None:
    x = torch.randn(10, 10)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_dropout_follows_the_seed_and_keeps_the_type() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(64, 64, dtype=torch.bfloat16), 0.3, training=True)

    assert draw(3).dtype == torch.bfloat16
    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_dropout_passes_gradients_only_through_what_it_kept() -> None:
    torch.manual_seed(0)
    x = torch.ones(100, requires_grad=True)
    out = dropout(x, 0.5, training=True)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())


def test_context_capture_is_attention_of_one_mean_query() -> None:
    """Against PyTorch's own multi-head attention, and blind to padding."""
    torch.manual_seed(0)
    d, config = 12, SidMlpConfig(heads=3, head_size=4, d_ff=20, hidden=8)
    module = ContextCapture(d, config).eval()
    states, real = torch.randn(2, 5, d), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    found = module(states, real)
    keys, values = module.key_value.weight.chunk(2)
    for row in range(2):
        seen = states[row, real[row]]
        start = module.start(seen.mean(0, keepdim=True))
        attended, _ = F.multi_head_attention_forward(
            start, seen, seen, d, 3, torch.cat([module.query.weight, keys, values]), None, None, None, False, 0.0,
            module.output.weight, None, training=False,
        )  # fmt: skip
        x = module.attention_norm(start + attended)
        torch.testing.assert_close(found[row], module.norm(x + module.outer(F.relu(module.inner(x))))[0])
