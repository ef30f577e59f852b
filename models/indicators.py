"""Indicators: one number a request that says how much it looks like a memorized transition.

* `msp`: SASRec's maximum softmax probability over the whole catalogue (arXiv 2603.19809, section 5).
* `transition`: SASRec's probability mass on the observed successors of the last item, among the items it listed.
* `learned`: the probability that SASRec ranks the next item above the generative model, by a logistic regression over
  the request's features (`models.fusion`).

All lie in [0, 1].
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

IndicatorName = Literal["msp", "transition", "learned"]
INDICATORS: tuple[IndicatorName, ...] = get_args(IndicatorName)


class Ranked(NamedTuple):
    """SASRec's answer to `B` histories.

    Attributes:
        items: int64 [B, K], best first, 0 for an empty slot.
        scores: float32 [B, K], logits, -inf for an empty slot.
        msp: float32 [B], maximum softmax probability over the whole catalogue, masks ignored.
        log_partition: float32 [B], log of the sum of exp(logit) over the whole catalogue, masks ignored.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]
    msp: NDArray[np.float32]
    log_partition: NDArray[np.float32]


Successors = Sequence[NDArray[np.int32]]


def transition_mass(ranked: Ranked, successors: Successors) -> NDArray[np.float64]:
    """Probability [B] that SASRec gives to listed items that were seen right after the last history item."""
    probabilities = np.exp(ranked.scores.astype(np.float64) - ranked.log_partition[:, None])
    seen = [np.isin(items, row) for items, row in zip(ranked.items, successors, strict=True)]
    mass: NDArray[np.float64] = probabilities.sum(axis=1, where=np.array(seen).reshape(probabilities.shape))
    return mass
