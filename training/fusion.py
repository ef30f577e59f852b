"""Fits the ensemble: which fixed weight, and which indicator with which k and tau, has the best validation NDCG@10.

arXiv 2603.19809 tries tau = 0, .1, ..., .5 whatever the indicator's values are; where these are small, no such tau lets
SASRec weigh much more than one half. Here tau is placed so that the median request gets each weight of a grid, and k
says how far the others move from it. Only validation lists are seen here.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.ensemble import Aligned, EnsembleParameters, align, fuse, weight
from models.indicators import INDICATORS, IndicatorName
from training.data.dataset import Instances
from training.lists import Lists, indicator_values
from training.metrics import Ranks, ndcg, ranks

ALPHAS = tuple(tenth / 10 for tenth in range(11))
CENTRES = ALPHAS[1:-1]
KS = (1.0, 2.0, 5.0, 9.0, 13.0, 17.0, 21.0, 25.0)


def fit_ensemble(bundle: Bundle, generative: str, lists: Lists, instances: Instances) -> EnsembleParameters:
    """The parameters of the ensemble of SASRec and the named generative model.

    The result is adaptive, with the best fixed weight beside it as `alpha`.
    """
    aligned = align(lists.ranked[:2], lists.generated[generative])
    values = {name: indicator_values(bundle, name, lists, instances) for name in INDICATORS}

    def score(parameters: EnsembleParameters, indicator: NDArray[np.float64]) -> float:
        return float(ndcg(mixture_ranks(aligned, weight(parameters, indicator), instances.targets), 10).mean())

    fixed = [EnsembleParameters(mode="fixed", alpha=alpha) for alpha in ALPHAS]
    best = max(fixed, key=lambda parameters: score(parameters, values["msp"]))
    adaptive = [point for name in INDICATORS for point in adaptive_grid(name, values[name], best.alpha)]
    return max(adaptive, key=lambda parameters: score(parameters, values[parameters.indicator]))


def adaptive_grid(name: IndicatorName, values: NDArray[np.float64], alpha: float) -> Iterator[EnsembleParameters]:
    """The adaptive weights to try for an indicator with these values; `alpha` is the fixed weight they stand beside."""
    median = float(np.median(values))
    for k in KS:
        for centre in CENTRES:
            tau = median - math.log(centre / (1 - centre)) / k
            yield EnsembleParameters(mode="adaptive", alpha=alpha, indicator=name, k=k, tau=round(tau, 4))


def mixture_ranks(aligned: Aligned, alpha: NDArray[np.floating], targets: NDArray[np.integer]) -> Ranks:
    """Ranks [n] of the targets as `fuse` would order them, 0 where absent, without sorting anything."""
    scores = aligned.mixture(alpha)
    is_target = aligned.items == np.asarray(targets)[:, None]
    place = is_target.argmax(axis=1)[:, None]
    own = np.take_along_axis(scores, place, axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < place))
    return np.where(is_target.any(axis=1), before.sum(axis=1) + 1, 0)


def ensemble_ranks(
    parameters: EnsembleParameters,
    generative: str,
    lists: Lists,
    indicators: Mapping[IndicatorName, NDArray[np.float64]],
    targets: NDArray[np.integer],
) -> Ranks:
    """Ranks [n] of the targets in the fused lists, through the code path of the service."""
    alpha = weight(parameters, indicators[parameters.indicator])
    return ranks(fuse(lists.ranked[:2], lists.generated[generative], alpha).items, targets)
