"""From two lists to one, by whichever method the manifest names.

`fixed`, `msp`, `transition` and `learned` give each list one weight a request (`models.ensemble`). `candidates` scores
every candidate by its own features: where it stands in each list, how often training links it, and its prefix, with the
last items. The learned parts are tiny; they lie in the bundle, fitted on validation data only.

Shapes: `B` requests, `M` candidates.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.archives import read_arrays
from models.compiled import compiled
from models.context import Context
from models.ensemble import Aligned, EnsembleParameters, Fused, Method, align, weight
from models.errors import BundleError
from models.features import CANDIDATE_FEATURES, REQUEST_FEATURES, Facts, Features, Lists, compute
from models.indicators import IndicatorName, Ranked, transition_mass
from models.scorer import Scorer

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Learned:
    """The learned parts of one ensemble."""

    indicator: Scorer
    """Over REQUEST_FEATURES: the log-odds that SASRec ranks the next item above the generative model."""
    candidates: Scorer
    """Over CANDIDATE_FEATURES: the logit of a candidate to be the next item, in a softmax over all candidates."""

    def save(self, path: Path) -> None:
        """Write both to an npz; the same weights give the same bytes."""
        with path.open("wb") as file:
            arrays = self.indicator.arrays("indicator_") | self.candidates.arrays("candidates_")
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Learned":
        """Read what `save` wrote.

        Raises:
            BundleError: the file is not such an archive, or was fitted for other features.
        """
        arrays = read_arrays(path)
        return cls(
            Scorer.read(arrays, "indicator_", len(REQUEST_FEATURES)),
            Scorer.read(arrays, "candidates_", len(CANDIDATE_FEATURES)),
        )


class Verdict(NamedTuple):
    """One list for each of `B` requests, and what decided it."""

    fused: Fused
    indicator: IndicatorName
    value: Floats  # [B], of the indicator
    alpha: Floats | None  # [B], SASRec's weight; None where every candidate has its own score


@dataclass(frozen=True)
class Fusion:
    """The ensemble of SASRec and one generative model."""

    parameters: EnsembleParameters
    learned: Learned | None
    facts: Facts

    def using(self, method: Method) -> "Fusion":
        """The same ensemble with another method."""
        return replace(self, parameters=self.parameters.using(method))

    def __call__(
        self, ranked: Ranked, generated: tuple[NDArray[np.int64], NDArray[np.floating]], contexts: Iterable[Context]
    ) -> Verdict:
        """Fuse the answers of both models to the same `B` requests."""
        aligned = align((ranked.items, ranked.scores), generated)
        method = self.parameters.method
        if method == "candidates":
            learned, features = self._learned(ranked, generated, aligned, contexts)
            scores = candidate_probabilities(learned.candidates(features.candidates), aligned)
            return Verdict(aligned.sorted_by(scores), "learned", learned.indicator.probability(features.request), None)
        name: IndicatorName = "msp" if method == "fixed" else method
        value = self._indicate(name, ranked, generated, aligned, contexts)
        if method == "fixed":
            alpha = np.full(len(value), self.parameters.alpha)
        else:
            alpha = weight(self.parameters.weights[method], value)
        if self.parameters.normalisation == "rank":
            aligned = align((ranked.items, ranked.scores), generated, "rank")
        return Verdict(aligned.sorted_by(aligned.mixture(alpha)), name, value, alpha)

    def _indicate(
        self,
        name: IndicatorName,
        ranked: Ranked,
        generated: tuple[NDArray[np.int64], NDArray[np.floating]],
        aligned: Aligned,
        contexts: Iterable[Context],
    ) -> Floats:
        if name == "msp":
            return ranked.msp.astype(np.float64)
        if name == "transition":
            return transition_mass(ranked, [context.successors() for context in contexts])
        learned, features = self._learned(ranked, generated, aligned, contexts)
        return learned.indicator.probability(features.request)

    def _learned(
        self,
        ranked: Ranked,
        generated: tuple[NDArray[np.int64], NDArray[np.floating]],
        aligned: Aligned,
        contexts: Iterable[Context],
    ) -> tuple[Learned, Features]:
        if self.learned is None:
            raise BundleError(
                f"method {self.parameters.method} needs learned weights, which the bundle lacks. Run tandem fit."
            )
        return self.learned, compute(Lists.of(ranked, generated), aligned, contexts, self.facts)


def candidate_probabilities(logits: Floats, aligned: Aligned) -> Floats:
    """Softmax [B, M] over the candidates of each request; -inf for an empty slot, so that it stands last."""
    probabilities = np.full(logits.shape, -np.inf)
    _softmax(logits, aligned.items, probabilities)
    return probabilities


@compiled
def _softmax(logits: Floats, items: NDArray[np.int64], probabilities: Floats) -> None:
    for row in range(len(logits)):
        highest, total = -np.inf, 0.0
        for slot in range(logits.shape[1]):
            if items[row, slot] > 0:
                highest = max(highest, logits[row, slot])
        for slot in range(logits.shape[1]):
            if items[row, slot] > 0:
                probabilities[row, slot] = math.exp(logits[row, slot] - highest)
                total += probabilities[row, slot]
        for slot in range(logits.shape[1]):
            if items[row, slot] > 0:
                probabilities[row, slot] /= total
