"""Fits the ensembles on validation lists: the weights of every method, the learned parts, and which method serves.

arXiv 2603.19809 tries tau = 0, .1, ..., .5 whatever the indicator's values are; where these are small, no such tau lets
SASRec weigh much more than one half. Here its grid is tried, and besides tau is placed so that the median request gets
each weight of another grid, where k says how far the others move from it.

Methods are compared by NDCG@10 on the same validation users. Whatever is learned answers each of them from a fit
without that user (cross-fitting), so that a method with more parameters cannot win by remembering them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.context import Context
from models.ensemble import METHODS, NORMALISATIONS, Aligned, EnsembleParameters, Method, Sigmoid, align, weight
from models.features import Features, compute
from models.features import Lists as LogLists
from models.fusion import Learned
from models.indicators import IndicatorName, transition_mass
from models.scorer import Scorer
from training.data.dataset import Instances
from training.lists import Lists
from training.metrics import Ranks, ndcg, ranks
from training.scorers import Examples, fit_candidates, fit_indicator

ALPHAS = tuple(tenth / 10 for tenth in range(11))
CENTRES = ALPHAS[1:-1]
KS = (1.0, 2.0, 5.0, 9.0, 13.0, 17.0, 21.0, 25.0)
TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
FOLDS = 5

Floats = NDArray[np.float64]


class Fitted(NamedTuple):
    """The ensemble of SASRec and one generative model, as it goes into a bundle."""

    parameters: EnsembleParameters
    learned: Learned


def fit_ensemble(bundle: Bundle, generative: str, lists: Lists, instances: Instances) -> Fitted:
    """Fit every method, and name the one with the best validation NDCG@10 as the one that serves."""
    generated = lists.generated[generative]
    targets, n = instances.targets, len(instances.targets)
    by_normalisation = {name: align(lists.ranked[:2], generated, name) for name in NORMALISATIONS}
    aligned = by_normalisation["score"]
    features = compute(LogLists.of(lists.ranked, generated), aligned, contexts(bundle, instances), bundle.facts)
    examples, better = _examples(aligned, features, targets), _better(aligned, targets)
    fit_request = partial(_fit_request, features.request, better)
    folds = np.random.default_rng(0).permutation(n) % FOLDS
    values: dict[IndicatorName, Floats] = {
        "msp": lists.ranked.msp.astype(np.float64),
        "transition": transition_mass(lists.ranked, successors(bundle, instances)),
        "learned": _cross_fitted(folds, lambda rows: fit_request(rows).probability, features.request),
    }
    logits = _cross_fitted(folds, lambda rows: fit_candidates(examples.take(rows)), features.candidates)
    weights = {name: _fit_weights(both, values, targets) for name, both in by_normalisation.items()}
    by_score, by_rank = weights["score"], weights["rank"]
    ranked_better = tuple(method for method, found in by_rank.ndcg.items() if found > by_score.ndcg[method])
    best = {method: by_rank if method in ranked_better else by_score for method in by_score.ndcg}
    validation: dict[Method, float] = {
        **{method: chosen.ndcg[method] for method, chosen in best.items()},
        "candidates": _score(aligned, np.where(examples.real, logits, -np.inf), targets),
    }
    parameters = EnsembleParameters(
        method=max(METHODS, key=validation.__getitem__),
        alpha=best["fixed"].alpha,
        weights={name: best[name].sigmoids[name] for name in values},
        by_rank=ranked_better,
        validation=validation,
        by_normalisation={name: found.ndcg for name, found in weights.items()},
    )
    return Fitted(parameters, Learned(fit_request(np.arange(n)), fit_candidates(examples)))


def sigmoid_grid(values: Floats) -> Iterator[Sigmoid]:
    """The weights to try for an indicator with these values: by the median, and as the paper has them."""
    median = float(np.median(values))
    for k in KS:
        for centre in CENTRES:
            yield Sigmoid(k=k, tau=round(median - math.log(centre / (1 - centre)) / k, 4))
        for tau in TAUS:
            yield Sigmoid(k=k, tau=tau)


class _Weights(NamedTuple):
    """The best weight of every method that has one, over lists normalised one way."""

    alpha: float  # of method fixed
    sigmoids: Mapping[IndicatorName, Sigmoid]
    ndcg: Mapping[Method, float]  # validation NDCG@10


def _fit_weights(aligned: Aligned, values: Mapping[IndicatorName, Floats], targets: NDArray[np.integer]) -> _Weights:
    _, found = _slots(aligned, targets)
    known = Aligned(aligned.items[found], aligned.sasrec[found], aligned.generative[found])
    wanted = targets[found]  # the others gain nothing at any weight

    def score(alpha: Floats) -> float:
        return float(ndcg(slot_ranks(known, known.mixture(alpha[found]), wanted), 10).sum()) / len(targets)

    fixed = {alpha: score(np.full(len(targets), alpha)) for alpha in ALPHAS}
    alpha = max(fixed, key=fixed.__getitem__)
    sigmoids: dict[IndicatorName, Sigmoid] = {}
    ndcg_of: dict[Method, float] = {"fixed": fixed[alpha]}
    for name, value in values.items():
        points = {sigmoid: score(weight(sigmoid, value)) for sigmoid in sigmoid_grid(value)}
        sigmoids[name] = max(points, key=points.__getitem__)
        ndcg_of[name] = points[sigmoids[name]]
    return _Weights(alpha, sigmoids, ndcg_of)


def _score(aligned: Aligned, mixture: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    return float(ndcg(slot_ranks(aligned, mixture, targets), 10).mean())


def slot_ranks(aligned: Aligned, scores: NDArray[np.floating], targets: NDArray[np.integer]) -> Ranks:
    """Ranks [n] of the targets as `Aligned.sorted_by` would order them, 0 where absent, without sorting anything."""
    place, found = _slots(aligned, targets)
    own = np.take_along_axis(scores, place[:, None], axis=1)
    before = (scores > own) | ((scores == own) & (np.arange(scores.shape[1]) < place[:, None]))
    return np.where(found, before.sum(axis=1) + 1, 0)


def ensemble_ranks(
    bundle: Bundle, generative: str, methods: Sequence[Method], lists: Lists, instances: Instances
) -> dict[Method, Ranks]:
    """Ranks [n] of the targets in the fused lists of each method, through the code path of the service."""
    fusion, generated = bundle.fusions[generative], lists.generated[generative]
    ranked, targets = lists.ranked, instances.targets
    return {
        method: ranks(fusion.using(method)(ranked, generated, contexts(bundle, instances)).fused.items, targets)
        for method in methods
    }


def contexts(bundle: Bundle, instances: Instances) -> Iterator[Context]:
    """What the histories of the instances bring to the ensemble, one at a time: together they would fill the memory."""
    return (Context.of(history, bundle.transitions) for history in instances.histories)


def successors(bundle: Bundle, instances: Instances) -> list[NDArray[np.int32]]:
    """The items seen right after the last one of each history."""
    return [context.successors() for context in contexts(bundle, instances)]


def _slots(aligned: Aligned, targets: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The slot [n] of each target, and whether [n] it has one."""
    is_target = aligned.items == np.asarray(targets)[:, None]
    return is_target.argmax(axis=1), is_target.any(axis=1)


def _examples(aligned: Aligned, features: Features, targets: NDArray[np.integer]) -> Examples:
    place, found = _slots(aligned, targets)
    return Examples(features.candidates, aligned.items > 0, place, found)


def _better(aligned: Aligned, targets: NDArray[np.integer]) -> NDArray[np.int8]:
    """Which model ranks each target [n] higher: 1 SASRec, -1 the generative one, 0 neither."""
    sasrec, generative = (
        slot_ranks(aligned, np.nan_to_num(scores, nan=-1.0), targets) for scores in (aligned.sasrec, aligned.generative)
    )
    better: NDArray[np.int8] = np.sign(generative - sasrec).astype(np.int8)
    return better


def _fit_request(request: Floats, better: NDArray[np.int8], rows: NDArray[np.integer]) -> Scorer:
    """The indicator from the requests `rows` on which the models differ."""
    rows = rows[better[rows] != 0]
    return fit_indicator(request[rows], better[rows] > 0)


def _cross_fitted(
    folds: NDArray[np.int64], fit: Callable[[NDArray[np.integer]], Callable[[Floats], Floats]], features: Floats
) -> Floats:
    """Answers to all requests, each from a fit on the other folds."""
    parts = [fit(np.flatnonzero(folds != fold))(features[folds == fold]) for fold in range(FOLDS)]
    answers = np.empty((len(folds), *parts[0].shape[1:]))
    for fold, part in enumerate(parts):
        answers[folds == fold] = part
    return answers
