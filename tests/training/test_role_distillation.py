"""Stage 1 of SID-MLP++: its loss and its score against one example at a time, and the states that stage 2 reads."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from models.bundle import Bundle
from models.networks.role_encoder import RoleEncoder, RoleEncoderConfig
from models.networks.sid_mlp import SidMlpPlusPlus
from models.networks.tiger import Encoder
from tests.bundles import tiny_plus_plus
from tests.training.test_lists import tiny_dataset
from training.batches import PrefixExamples
from training.distillation import TeacherStates
from training.loop import Runtime
from training.publish import Parts
from training.role_distillation import StateMatching, explained_variance

QUIET = Console(file=io.StringIO())
LONGEST = 20


@pytest.fixture(scope="module")
def network(parts: Parts) -> SidMlpPlusPlus:
    return tiny_plus_plus(parts)


@pytest.fixture(scope="module")
def matching(bundle: Bundle, parts: Parts, network: SidMlpPlusPlus) -> StateMatching:
    item_codes = torch.from_numpy(parts.catalogue.codes)
    examples = PrefixExamples.of(tiny_dataset(bundle).training_sequences(), LONGEST)
    states = TeacherStates.extract(parts.tiger, examples, item_codes, Runtime(), QUIET)
    return StateMatching(network.encoder, states, examples, item_codes)


def history(matching: StateMatching, example: int) -> torch.Tensor:
    return torch.from_numpy(matching.examples.history(example).astype(np.int64))[None]


@torch.no_grad()
def test_the_loss_is_the_mean_over_real_tokens(matching: StateMatching, parts: Parts) -> None:
    rows = np.array([0, 40, 7, 300, 7])
    errors = []
    for row in rows:
        found, _ = matching.encoder(history(matching, row), matching.item_codes)
        expected, _ = parts.tiger.encoder(history(matching, row), matching.item_codes)
        errors.append((found - expected)[0].square().mean(-1))
    assert len({len(error) for error in errors}) > 2  # lengths differ, so padding would count if it could
    assert matching.loss(rows).item() == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)


@torch.no_grad()
def test_stage_2_reads_the_students_states_and_the_teachers_logits(matching: StateMatching) -> None:
    states = matching.states.read_by(matching.encoder, matching.examples, matching.item_codes, Runtime(), QUIET)
    assert states.logits is matching.states.logits
    for row in (0, 7, 300, len(matching.examples) - 1):
        found, inside, *_ = states.take(np.array([row]))
        expected, real = matching.encoder(history(matching, row), matching.item_codes)
        assert torch.equal(inside, real)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_explained_variance_is_r_squared(
    matching: StateMatching, parts: Parts, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = tiny_dataset(bundle).instances("valid")
    teacher, item_codes = parts.tiger, matching.item_codes
    score = explained_variance(matching.encoder, teacher, item_codes, instances)
    pairs = []
    for seen in instances.histories:
        batch = torch.from_numpy(seen[-LONGEST:].astype(np.int64))[None]
        pairs.append([network(batch, item_codes)[0][0] for network in (matching.encoder, teacher.encoder)])
    found, expected = (torch.cat(states) for states in zip(*pairs, strict=True))
    spread = (expected - expected.mean(0)).square().mean()
    assert score() == pytest.approx((1 - (found - expected).square().mean() / spread).item(), rel=1e-4)
    monkeypatch.setattr(RoleEncoder, "forward", lambda self, *inputs: teacher.encoder(*inputs))
    assert score() == pytest.approx(1.0)


@torch.no_grad()
def test_the_encoder_starts_at_the_scale_of_the_states(matching: StateMatching, parts: Parts) -> None:
    teacher = Encoder(parts.tiger.config).eval()
    teacher.norm.weight.fill_(0.3)
    teacher.norm.weight[0] = 3.0
    encoder = RoleEncoder(teacher.config, RoleEncoderConfig(layers=2, hidden=24)).eval()
    encoder.start_from(teacher)
    (found, _), (expected, _) = (network(history(matching, 300), matching.item_codes) for network in (encoder, teacher))
    assert torch.equal(encoder.embedding.weight, teacher.embedding.weight)
    for states in (found, expected):  # both norms give tokens of mean square 1 before the weights
        unscaled = states / teacher.norm.weight
        torch.testing.assert_close(unscaled.square().mean(-1), torch.ones(states.shape[:2]), rtol=1e-3, atol=0)


def test_the_encoder_learns_the_states_and_leaves_the_embedding(matching: StateMatching, parts: Parts) -> None:
    encoder = tiny_plus_plus(parts).encoder.train()
    learning = StateMatching(encoder, matching.states, matching.examples, matching.item_codes)
    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = learning.loss(np.arange(64))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    assert encoder.embedding.weight.grad is None
    assert torch.equal(encoder.embedding.weight, parts.tiger.encoder.embedding.weight)
