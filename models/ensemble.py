"""The ensemble's parameters and arithmetic: one list from SASRec, one from a generative model, one weight a request.

After Ding et al., arXiv 2603.19809, section 5 and its released code: each list is normalised by itself, its scores
(min-max) or its ranks (1 / log2(rank + 1)), an item absent from a list contributes 0 there, and SASRec's weight is
alpha = sigmoid(k * (indicator - tau)). (Equation 2 of the paper prints the opposite sign; its code and its argument
use this one.)

Shapes: `B` requests, `K` entries of SASRec's list, `G` entries of the generative list, `M` = K + G.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from models.compiled import compiled
from models.indicators import IndicatorName

Floats = NDArray[np.floating]
Items = NDArray[np.int64]


Method = Literal["fixed", "msp", "transition", "learned", "candidates"]
"""How two lists become one: by a fixed weight, by a weight that follows the indicator of that name, or by candidates'
own features (`models.fusion`)."""
METHODS: tuple[Method, ...] = get_args(Method)


Normalisation = Literal["score", "rank"]
"""What of a list goes into a weighted sum: its scores, or only the order of its items."""
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)


class Sigmoid(BaseModel):
    """A weight that follows an indicator: alpha = sigmoid(k * (indicator - tau))."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: float
    tau: float


class EnsembleParameters(BaseModel):
    """How two lists become one; fitted on validation data and stored in the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method  # what serves
    alpha: float = 0.5  # the best fixed weight
    weights: Mapping[IndicatorName, Sigmoid] = {}
    by_rank: tuple[Method, ...] = ()  # the methods that weigh ranks; the others weigh scores
    validation: Mapping[Method, float] = {}  # NDCG@10 by which the method was chosen
    by_normalisation: Mapping[Normalisation, Mapping[Method, float]] = {}  # NDCG@10 by which `by_rank` was chosen

    @model_validator(mode="after")
    def _has_its_weight(self) -> Self:
        if self.method not in ("fixed", "candidates") and self.method not in self.weights:
            raise ValueError(f"method {self.method} needs an entry in weights, which has {list(self.weights)}")
        return self

    @property
    def normalisation(self) -> Normalisation:
        """What the method weighs."""
        return "rank" if self.method in self.by_rank else "score"

    def using(self, method: Method) -> "EnsembleParameters":
        """The same parameters with another method."""
        return EnsembleParameters(**{**dict(self), "method": method})


class Aligned(NamedTuple):
    """Both lists side by side, SASRec's first; each item stands once, a repeated one leaves an empty slot (item 0).

    Attributes:
        items: int64 [B, M].
        sasrec: float64 [B, M], normalised score or rank in SASRec's list, NaN where absent.
        generative: float64 [B, M], likewise for the generative list.
    """

    items: Items
    sasrec: Floats
    generative: Floats

    def mixture(self, alpha: Floats) -> Floats:
        """alpha * sasrec + (1 - alpha) * generative for weights [B]: [B, M], -inf for an empty slot."""
        mixed = alpha[:, None] * np.nan_to_num(self.sasrec) + (1.0 - alpha[:, None]) * np.nan_to_num(self.generative)
        return np.where(self.items > 0, mixed, -np.inf)

    def sorted_by(self, scores: Floats) -> "Fused":
        """Both lists as one by scores [B, M], best first; equal scores keep the order of the slots."""
        order = np.argsort(-scores, axis=1, kind="stable")
        rows = np.arange(len(order))[:, None]
        return Fused(
            self.items[rows, order], scores[rows, order], self.sasrec[rows, order], self.generative[rows, order]
        )


class Fused(NamedTuple):
    """Both lists as one, best first; empty slots have item 0 and score -inf and stand last. Shapes as `Aligned`."""

    items: Items
    scores: Floats
    sasrec: Floats
    generative: Floats


def weight(sigmoid: Sigmoid, indicator: Floats) -> NDArray[np.float64]:
    """SASRec's weight alpha [B] for values [B] of an indicator."""
    return 1.0 / (1.0 + np.exp(-sigmoid.k * (indicator.astype(np.float64) - sigmoid.tau)))


def normalise(items: Items, scores: Floats) -> Floats:
    """Min-max normalised scores [B, K] in float64; all equal gives 1, empty slots (item 0) give NaN."""
    values = np.full(items.shape, np.nan)
    _normalise(items, scores, values)
    return values


def rank_gains(items: Items) -> Floats:
    """1 / log2(rank + 1) in float64 for ranked items [B, K], ranks from 1; empty slots (item 0) give NaN."""
    return np.where(items > 0, 1.0 / np.log2(np.arange(2, items.shape[1] + 2)), np.nan)


def align(
    sasrec: tuple[Items, Floats], generative: tuple[Items, Floats], normalisation: Normalisation = "score"
) -> Aligned:
    """Normalise two ranked lists (items [B, K] and [B, G], scores alike) and match their items."""
    items_a, items_b = sasrec[0], generative[0]
    by_rank = normalisation == "rank"
    score_a, score_b = (rank_gains(items) if by_rank else normalise(items, s) for items, s in (sasrec, generative))
    return _align(items_a, score_a, items_b, score_b)


def fuse(
    sasrec: tuple[Items, Floats],
    generative: tuple[Items, Floats],
    alpha: Floats,
    normalisation: Normalisation = "score",
) -> Fused:
    """Merge two ranked lists (items [B, K] and [B, G], scores alike) under SASRec's weights [B].

    Equal scores keep the order: SASRec's list first, then the generative one, each best first.
    """
    aligned = align(sasrec, generative, normalisation)
    return aligned.sorted_by(aligned.mixture(alpha))


@compiled
def _normalise(items: Items, scores: Floats, values: Floats) -> None:
    for row in range(items.shape[0]):
        low, high = np.inf, -np.inf
        for entry in range(items.shape[1]):
            if items[row, entry] > 0:
                low, high = min(low, float(scores[row, entry])), max(high, float(scores[row, entry]))
        for entry in range(items.shape[1]):
            if items[row, entry] > 0:
                values[row, entry] = (float(scores[row, entry]) - low) / (high - low) if high > low else 1.0


@compiled
def _align(items_a: Items, score_a: Floats, items_b: Items, score_b: Floats) -> Aligned:
    """Put two lists side by side; what both hold stands in the first one's slot with both scores."""
    requests, length = items_a.shape
    slots = length + items_b.shape[1]
    items = np.empty((requests, slots), np.int64)
    sasrec, generative = np.full((requests, slots), np.nan), np.full((requests, slots), np.nan)
    items[:, :length], items[:, length:] = items_a, items_b
    sasrec[:, :length], generative[:, length:] = score_a, score_b
    for row in range(requests):
        for second in range(length, slots):
            for first in range(length):
                if items[row, first] == items[row, second] and items[row, first] > 0:
                    generative[row, first] = generative[row, second]
                    items[row, second] = 0
                    break
    return Aligned(items, sasrec, generative)
