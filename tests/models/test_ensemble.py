"""Fusion against a plain dictionary, and the weight of SASRec."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.ensemble import NORMALISATIONS, EnsembleParameters, Normalisation, Sigmoid, fuse, normalise, weight

Entries = list[tuple[int, float]]
ranked_lists = st.lists(
    st.tuples(st.integers(1, 12), st.integers(-40, 0).map(lambda score: score / 4)),
    min_size=6,
    max_size=6,
    unique_by=lambda entry: entry[0],
).map(lambda entries: sorted(entries, key=lambda entry: -entry[1]))


def as_arrays(entries: Entries, empty: int) -> tuple[np.ndarray, np.ndarray]:
    """One row of a list whose last `empty` slots are empty."""
    kept = entries[: len(entries) - empty]
    items = [item for item, _ in kept] + [0] * empty
    scores = [score for _, score in kept] + [-math.inf] * empty
    return np.array([items]), np.array([scores], dtype=np.float32)


def plain_normalise(entries: Entries) -> dict[int, float]:
    scores = [score for _, score in entries]
    low, high = min(scores), max(scores)
    return {item: 1.0 if high == low else (score - low) / (high - low) for item, score in entries}


def plain_gains(entries: Entries) -> dict[int, float]:
    return {item: 1 / math.log2(rank + 2) for rank, (item, _) in enumerate(entries)}


def plain_fuse(sasrec: Entries, generative: Entries, alpha: float, normalisation: Normalisation) -> Entries:
    plain = plain_gains if normalisation == "rank" else plain_normalise
    left, right = plain(sasrec), plain(generative)
    order = list(dict.fromkeys([*left, *right]))
    mixed = [(item, alpha * left.get(item, 0.0) + (1 - alpha) * right.get(item, 0.0)) for item in order]
    return sorted(mixed, key=lambda entry: -entry[1])


@given(
    ranked_lists, ranked_lists, st.integers(0, 4), st.integers(0, 4), st.floats(0, 1), st.sampled_from(NORMALISATIONS)
)
def test_fusion_is_the_plain_sum_of_what_is_normalised(
    sasrec: Entries, generative: Entries, empty_a: int, empty_b: int, alpha: float, normalisation: Normalisation
) -> None:
    lists = as_arrays(sasrec, empty_a), as_arrays(generative, empty_b)
    fused = fuse(*lists, np.array([alpha]), normalisation)
    expected = plain_fuse(sasrec[: 6 - empty_a], generative[: 6 - empty_b], alpha, normalisation)
    count = len(expected)
    assert fused.items[0, :count].tolist() == [item for item, _ in expected]
    assert fused.scores[0, :count].tolist() == pytest.approx([score for _, score in expected])
    assert not fused.items[0, count:].any()
    assert np.isneginf(fused.scores[0, count:]).all()


def test_the_parts_of_a_score_say_where_it_comes_from() -> None:
    fused = fuse(as_arrays([(1, 0.0), (2, -1.0)], 0), as_arrays([(2, -1.0), (3, -3.0)], 0), np.array([0.25]))
    assert fused.items[0].tolist() == [2, 1, 3, 0]
    assert fused.scores[0, :3].tolist() == pytest.approx([0.75, 0.25, 0.0])
    np.testing.assert_array_equal(fused.sasrec[0, :3], [0.0, 1.0, np.nan])
    np.testing.assert_array_equal(fused.generative[0, :3], [1.0, np.nan, 0.0])


def test_equal_scores_normalise_to_one_and_an_empty_list_to_nothing() -> None:
    items = np.array([[4, 5], [0, 0]])
    scores = np.array([[-2.0, -2.0], [-np.inf, -np.inf]])
    np.testing.assert_array_equal(normalise(items, scores), [[1.0, 1.0], [np.nan, np.nan]])


def test_sasrec_weighs_more_when_the_indicator_is_higher() -> None:
    alphas = weight(Sigmoid(k=9.0, tau=0.2), np.array([0.0, 0.2, 1.0]))
    assert alphas.tolist() == pytest.approx([1 / (1 + math.exp(1.8)), 0.5, 1 / (1 + math.exp(-7.2))])


def test_a_method_without_its_weight_is_refused() -> None:
    parameters = EnsembleParameters(method="msp", alpha=0.2, weights={"msp": Sigmoid(k=1, tau=0)})
    assert parameters.using("fixed").alpha == 0.2
    with pytest.raises(ValidationError, match=r"method learned needs an entry in weights, which has \['msp'\]"):
        parameters.using("learned")
