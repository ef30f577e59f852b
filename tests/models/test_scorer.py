"""The scorer against its formula, and what it refuses to read."""

import numpy as np
import pytest

from models.errors import BundleError
from models.scorer import Scorer
from tests.bundles import random_scorer


def by_loop(scorer: Scorer, features: np.ndarray) -> float:
    x = [
        min(max((value - mean) / scale, -6.0), 6.0)
        for value, mean, scale in zip(features, scorer.mean, scorer.scale, strict=True)
    ]
    total = float(scorer.bias) + sum(a * b for a, b in zip(x, scorer.linear, strict=True))
    for unit, output in enumerate(scorer.output):
        total += (
            max(sum(a * b for a, b in zip(x, scorer.hidden[:, unit], strict=True)) + scorer.hidden_bias[unit], 0)
            * output
        )
    return total


@pytest.mark.parametrize("units", [0, 5])
def test_scores_follow_the_formula(units: int) -> None:
    scorer = random_scorer(7, units, seed=1)
    features = np.random.default_rng(2).normal(size=(3, 4, 7)) * 30  # some beyond the clip
    scores = scorer(features)
    assert scores.shape == (3, 4)
    for place in np.ndindex(3, 4):
        assert scores[place] == pytest.approx(by_loop(scorer, features[place]))
    np.testing.assert_allclose(scorer.probability(features), 1 / (1 + np.exp(-scores)))


def test_a_scorer_survives_being_stored() -> None:
    scorer = random_scorer(7, 5, seed=1)
    again = Scorer.read(scorer.arrays("x_"), "x_", 7)
    features = np.random.default_rng(0).normal(size=(9, 7))
    np.testing.assert_array_equal(scorer(features), again(features))


def test_a_scorer_of_other_features_is_refused() -> None:
    arrays = random_scorer(7, 5, seed=1).arrays("x_")
    with pytest.raises(BundleError, match=r"8 features for x_.*tandem fit"):
        Scorer.read(arrays, "x_", 8)
    del arrays["x_hidden"]
    with pytest.raises(BundleError, match=r"\['hidden'\] are missing"):
        Scorer.read(arrays, "x_", 7)
