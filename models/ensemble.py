"""The ensemble: one list from SASRec, one from a generative model, one weight a request.

After Ding et al., arXiv 2603.19809, section 5 and its released code: scores are min-max normalised inside each list,
an item absent from a list contributes 0 there, and SASRec's weight is alpha = sigmoid(k * (indicator - tau)).
(Equation 2 of the paper prints the opposite sign; its code and its argument use this one.)

Shapes: `B` requests, `K` entries of SASRec's list, `G` entries of the generative list, `M` = K + G.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.indicators import IndicatorName

Floats = NDArray[np.floating]
Items = NDArray[np.int64]


class EnsembleParameters(BaseModel):
    """How the weight of SASRec is found; fitted on validation data and stored in the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["fixed", "adaptive"]
    alpha: float = 0.5  # the best fixed weight
    indicator: IndicatorName = "msp"
    k: float = 1.0
    tau: float = 0.0

    def fixed(self) -> "EnsembleParameters":
        """The same ensemble with its fixed weight: what adaptive weights are compared with, and fall back to."""
        return self.model_copy(update={"mode": "fixed"})


class Aligned(NamedTuple):
    """Both lists side by side, SASRec's first; each item stands once, a repeated one leaves an empty slot (item 0).

    Attributes:
        items: int64 [B, M].
        sasrec: float64 [B, M], normalised score in SASRec's list, NaN where absent.
        generative: float64 [B, M], likewise for the generative list.
    """

    items: Items
    sasrec: Floats
    generative: Floats

    def mixture(self, alpha: Floats) -> Floats:
        """alpha * sasrec + (1 - alpha) * generative for weights [B]: [B, M], -inf for an empty slot."""
        mixed = alpha[:, None] * np.nan_to_num(self.sasrec) + (1.0 - alpha[:, None]) * np.nan_to_num(self.generative)
        return np.where(self.items > 0, mixed, -np.inf)


class Fused(NamedTuple):
    """Both lists as one, best first; empty slots have item 0 and score -inf and stand last. Shapes as `Aligned`."""

    items: Items
    scores: Floats
    sasrec: Floats
    generative: Floats


def weight(parameters: EnsembleParameters, indicator: Floats) -> Floats:
    """SASRec's weight alpha [B] for indicator values [B]."""
    if parameters.mode == "fixed":
        return np.full(len(indicator), parameters.alpha)
    return 1.0 / (1.0 + np.exp(-parameters.k * (indicator.astype(np.float64) - parameters.tau)))


def normalise(items: Items, scores: Floats) -> Floats:
    """Min-max normalised scores [B, K] in float64; all equal gives 1, empty slots (item 0) give NaN."""
    real = items > 0
    values = np.where(real, scores, np.nan).astype(np.float64)
    low = np.min(values, axis=1, keepdims=True, where=real, initial=np.inf)
    high = np.max(values, axis=1, keepdims=True, where=real, initial=-np.inf)
    flat = ~(high > low)
    return np.where(real, np.where(flat, 1.0, (values - low) / np.where(flat, 1.0, high - low)), np.nan)


def align(sasrec: tuple[Items, Floats], generative: tuple[Items, Floats]) -> Aligned:
    """Normalise two ranked lists (items [B, K] and [B, G], scores alike) and match their items."""
    items_a, items_b = sasrec[0], generative[0]
    score_a, score_b = normalise(*sasrec), normalise(*generative)
    same = (items_a[:, :, None] == items_b[:, None, :]) & (items_a > 0)[:, :, None]  # B, K, G
    in_both = np.where(same.any(axis=2), np.take_along_axis(score_b, same.argmax(axis=2), axis=1), np.nan)
    return Aligned(
        items=np.concatenate([items_a, np.where(same.any(axis=1), 0, items_b)], axis=1),
        sasrec=np.concatenate([score_a, np.full(items_b.shape, np.nan)], axis=1),
        generative=np.concatenate([in_both, score_b], axis=1),
    )


def fuse(sasrec: tuple[Items, Floats], generative: tuple[Items, Floats], alpha: Floats) -> Fused:
    """Merge two ranked lists (items [B, K] and [B, G], scores alike) under SASRec's weights [B].

    Equal scores keep the order: SASRec's list first, then the generative one, each best first.
    """
    aligned = align(sasrec, generative)
    scores = aligned.mixture(alpha)
    order = np.argsort(-scores, axis=1, kind="stable")
    return Fused(
        items=np.take_along_axis(aligned.items, order, axis=1),
        scores=np.take_along_axis(scores, order, axis=1),
        sasrec=np.take_along_axis(aligned.sasrec, order, axis=1),
        generative=np.take_along_axis(aligned.generative, order, axis=1),
    )
