"""Fits the learned parts of an ensemble: a logistic indicator, and a listwise scorer of candidates."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional

from models.networks.dropout import dropout
from models.scorer import Scorer

Floats = NDArray[np.float64]

UNITS = 16  # hidden units of one member
MEMBERS = 3  # networks of different seeds, whose scores are averaged: with few positives a single one wanders
EPOCHS = 40
BATCH = 128  # requests
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1
DROPOUT = 0.2
INVERSE_REGULARISATION = 0.1  # of the logistic regression


class Examples(NamedTuple):
    """Requests of validation users, with what they were answered with.

    Attributes:
        candidates: float64 [n, M, C].
        real: bool [n, M], whether a slot holds an item.
        target: int64 [n], the slot of the next item; meaningless where `found` is false.
        found: bool [n], whether either list holds the next item.
    """

    candidates: Floats
    real: NDArray[np.bool_]
    target: NDArray[np.int64]
    found: NDArray[np.bool_]

    def take(self, rows: NDArray[np.integer]) -> "Examples":
        """Some of the requests."""
        return Examples(*(values[rows] for values in self))


def fit_indicator(features: Floats, sasrec_is_better: NDArray[np.bool_]) -> Scorer:
    """A logistic regression over request features [n, R]."""
    if not len(features):
        features = np.zeros((1, features.shape[1]))  # the models never differ: a scorer that answers 0
    mean, scale = _moments(features)
    linear = Scorer(mean, scale, *_no_weights(features.shape[1]))
    if sasrec_is_better.all() or not sasrec_is_better.any():
        return linear  # one of the models is never better: nothing to tell apart
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    model.fit(linear.standardise(features), sasrec_is_better)
    return Scorer(mean, scale, model.coef_[0], np.asarray(model.intercept_[0]), *_no_weights(features.shape[1])[2:])


def fit_candidates(examples: Examples, *, seed: int = 0) -> Scorer:
    """A listwise scorer: softmax cross-entropy of the next item among the candidates of its request.

    Requests whose lists both lack the next item teach nothing and are left out.
    """
    known = examples.take(np.flatnonzero(examples.found))
    features = examples.candidates.shape[-1]
    if not len(known.target):
        return Scorer(*_moments(np.zeros((1, features))), *_no_weights(features))
    mean, scale = _moments(known.candidates[known.real])
    x = torch.from_numpy(Scorer(mean, scale, *_no_weights(features)).standardise(known.candidates)).float()
    members = [_train(x, known, seed + member) for member in range(MEMBERS)]

    def gather(*names: str) -> list[Floats]:
        return [member.weight(name) for member in members for name in names]

    return Scorer(
        mean=mean,
        scale=scale,
        linear=np.mean(gather("linear"), axis=0),
        bias=np.zeros(()),
        hidden=np.concatenate(gather("hidden"), axis=1),
        hidden_bias=np.concatenate(gather("hidden_bias")),
        output=np.concatenate(gather("output")) / MEMBERS,
    )


class _Member(nn.Module):
    """One network of the scorer, with the parameters named and shaped as `Scorer` has them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.zeros(features))
        bound = features**-0.5
        self.hidden = nn.Parameter(torch.empty(features, UNITS).uniform_(-bound, bound))
        self.hidden_bias = nn.Parameter(torch.empty(UNITS).uniform_(-bound, bound))
        self.output = nn.Parameter(torch.zeros(UNITS))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, M] of features [n, M, C]."""
        hidden = dropout(functional.relu(x @ self.hidden + self.hidden_bias), DROPOUT, self.training)
        logits: Tensor = x @ self.linear + hidden @ self.output
        return logits

    def weight(self, name: str) -> Floats:
        values: Floats = self.get_parameter(name).detach().double().numpy()
        return values


def _train(x: Tensor, examples: Examples, seed: int) -> _Member:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        member = _Member(x.shape[-1])
        optimizer = torch.optim.AdamW(member.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        steps = EPOCHS * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        empty, target = torch.from_numpy(~examples.real), torch.from_numpy(examples.target)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(x), generator=generator), BATCH):
                logits = member(x[rows]).masked_fill(empty[rows], -torch.inf)
                loss = functional.cross_entropy(logits, target[rows])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    return member.eval()


def _moments(features: Floats) -> tuple[Floats, Floats]:
    """Mean and deviation of each column of [n, F]; a constant column is left as it is."""
    deviation = features.std(axis=0)
    return features.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)


def _no_weights(features: int) -> tuple[Floats, ...]:
    """linear, bias, hidden, hidden_bias and output of a scorer that answers 0."""
    return np.zeros(features), np.zeros(()), np.zeros((features, 0)), np.zeros(0), np.zeros(0)
