"""Indicators against their definitions."""

import numpy as np
import pytest

from models.indicators import Ranked, transition_mass


def test_transition_is_the_probability_of_listed_successors() -> None:
    logits = np.array([[3.0, 2.0, 1.0], [1.0, 0.0, -np.inf]], dtype=np.float32)
    whole_catalogue = np.array([[3.0, 2.0, 1.0, 0.5], [1.0, 0.0, -1.0, -2.0]])
    partition = np.exp(whole_catalogue).sum(axis=1)
    ranked = Ranked(
        items=np.array([[7, 8, 9], [1, 2, 0]]),
        scores=logits,
        msp=(np.exp(whole_catalogue.max(axis=1)) / partition).astype(np.float32),
        log_partition=np.log(partition).astype(np.float32),
    )
    successors = [np.array([2, 7, 9], dtype=np.int32), np.array([], dtype=np.int32)]
    expected = (np.exp(3.0) + np.exp(1.0)) / partition[0]
    assert transition_mass(ranked, successors).tolist() == pytest.approx([expected, 0.0], rel=1e-5)
