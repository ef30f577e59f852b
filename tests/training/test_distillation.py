"""Distillation: the stored states against the teacher itself, and the loss against one example at a time."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

from models.networks.sid_mlp import SidMlp
from models.networks.tiger import Tiger
from tests.bundles import CODEBOOK, ITEMS, LEVELS
from training.batches import PrefixExamples
from training.distillation import KL_SHARE, Distillation, TeacherStates
from training.loop import Runtime
from training.publish import Parts

QUIET = Console(file=io.StringIO())
LONGEST = 5


@pytest.fixture(scope="module")
def examples() -> PrefixExamples:
    random = np.random.default_rng(0)
    sequences = [random.integers(1, ITEMS + 1, random.integers(1, 9)).astype(np.int32) for _ in range(170)]
    examples = PrefixExamples.of(sequences, LONGEST)
    assert len(examples) > 530  # more than one batch of extraction
    return examples


@pytest.fixture(scope="module")
def item_codes(parts: Parts) -> torch.Tensor:
    return torch.from_numpy(parts.catalogue.codes)


@pytest.fixture(scope="module")
def teacher(parts: Parts) -> Tiger:
    """The tiny teacher with larger weights, so that its opinions differ from one example to the next."""
    torch.manual_seed(1)
    teacher = Tiger(parts.tiger.config).eval()
    with torch.no_grad():
        teacher.encoder.embedding.weight.mul_(3)
    return teacher


def extract(
    teacher: Tiger, examples: PrefixExamples, item_codes: torch.Tensor, runtime: Runtime | None = None
) -> TeacherStates:
    return TeacherStates.extract(teacher, examples, item_codes, runtime or Runtime(bf16=False), QUIET)


@pytest.fixture(scope="module")
def states(teacher: Tiger, examples: PrefixExamples, item_codes: torch.Tensor) -> TeacherStates:
    return extract(teacher, examples, item_codes)


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.1)])
def test_every_example_has_the_teachers_own_states_and_logits(
    teacher: Tiger, examples: PrefixExamples, item_codes: torch.Tensor, bf16: bool, tolerance: float
) -> None:
    states = extract(teacher, examples, item_codes, Runtime(bf16=bf16))
    assert states.states.dtype == states.logits.dtype == (torch.bfloat16 if bf16 else torch.float32)
    for example in range(len(examples)):
        hidden, inside, logits, codes = states.take(np.array([example]))
        history = torch.from_numpy(examples.history(example).astype(np.int64))[None]
        target = torch.tensor([examples.targets[example]])
        with torch.no_grad():
            expected, real = teacher.encoder(history, item_codes)
            predicted = teacher(history, target, item_codes)
        assert inside.all()
        assert real.all()
        assert hidden.shape == (1, 2 + LEVELS * history.shape[1], teacher.config.d_model)
        torch.testing.assert_close(hidden.float(), expected, rtol=0, atol=tolerance)
        assert torch.equal(codes, item_codes[target])
        for level in range(LEVELS):
            first = 1 + level * CODEBOOK
            own = predicted[:, level, first : first + CODEBOOK]
            torch.testing.assert_close(logits[:, level].float(), own, rtol=0, atol=tolerance)


def test_a_batch_is_its_examples_with_padding(states: TeacherStates) -> None:
    rows = np.array([511, 3, 520, 3, 40])
    hidden, inside, logits, codes = states.take(rows)
    for place, row in enumerate(rows):
        alone, _, own_logits, own_codes = states.take(np.array([row]))
        assert inside[place].tolist() == [True] * alone.shape[1] + [False] * (hidden.shape[1] - alone.shape[1])
        assert torch.equal(hidden[place, inside[place]], alone[0])
        assert torch.equal(logits[place], own_logits[0])
        assert torch.equal(codes[place], own_codes[0])


def test_loss_is_a_sum_over_levels_of_each_example(states: TeacherStates, parts: Parts, teacher: Tiger) -> None:
    rows = np.array([0, 17, 200, 515, 33])
    total = 0.0
    embedding = teacher.encoder.embedding.weight
    with torch.no_grad():
        found = Distillation(teacher, parts.student, states).loss(rows).item()
        for row in rows:
            hidden, real, teacher_logits, codes = states.take(np.array([row]))
            logits = parts.student(hidden, real, codes[:, :-1], embedding)
            for level in range(LEVELS):
                p = torch.softmax(teacher_logits[0, level].double(), 0)
                q = torch.softmax(logits[0, level].double(), 0)
                divergence = sum((pi * (pi / qi).log()).item() for pi, qi in zip(p, q, strict=True))
                likelihood = -q[codes[0, level]].log().item()
                total += KL_SHARE * divergence + (1 - KL_SHARE) * likelihood
    assert found == pytest.approx(total / len(rows), rel=1e-5)


def test_a_student_that_is_its_teacher_pays_only_for_likelihood(
    states: TeacherStates, teacher: Tiger, monkeypatch: pytest.MonkeyPatch, parts: Parts
) -> None:
    rows = np.arange(20)
    _, _, logits, codes = states.take(rows)
    monkeypatch.setattr(parts.student, "forward", lambda *_: logits)
    likelihood = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), codes.flatten())
    found = Distillation(teacher, parts.student, states).loss(rows).item()
    assert found == pytest.approx(LEVELS * (1 - KL_SHARE) * likelihood.item(), rel=1e-5)


@pytest.mark.parametrize("bf16", [True, False])
def test_only_the_student_learns_in_either_precision(
    teacher: Tiger, examples: PrefixExamples, item_codes: torch.Tensor, parts: Parts, bf16: bool
) -> None:
    runtime = Runtime(bf16=bf16)
    torch.manual_seed(0)
    student = SidMlp(teacher.config, parts.student.config).train()
    some = PrefixExamples.of(examples.sequences[:20], LONGEST)
    distillation = Distillation(teacher, student, extract(teacher, some, item_codes, runtime))
    with runtime.forward_pass():
        loss = distillation.loss(np.arange(len(some)))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())


def test_the_loss_can_be_learned(states: TeacherStates, teacher: Tiger, parts: Parts) -> None:
    torch.manual_seed(0)
    student = SidMlp(teacher.config, parts.student.config)
    distillation, rows = Distillation(teacher, student, states), np.arange(64)
    optimizer = torch.optim.AdamW(student.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = distillation.loss(rows)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
