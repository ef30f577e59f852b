"""The one-hop view against plain counting over the training sequences."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from models.transitions import TransitionIndex
from training import one_hop
from training.index_build import build_index
from training.one_hop import KEPT, benefits_from_memorization, one_hop_candidates, one_hop_ratio

NUM_ITEMS = 90


def index_of(sequences: list[list[int]]) -> TransitionIndex:
    return build_index([np.array(sequence, dtype=np.int32) for sequence in sequences], NUM_ITEMS)


def naive_candidates(sequences: list[list[int]], history: list[int]) -> list[int]:
    followed = Counter(v for sequence in sequences for u, v in pairwise(sequence) if u in set(history))
    return sorted(followed, key=lambda item: (-followed[item], item))[:KEPT]


@pytest.mark.parametrize("block", [3, 4096])
def test_candidates_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Few items and long histories, so that equal frequencies meet at the cut."""
    monkeypatch.setattr(one_hop, "_BLOCK", block)
    random = np.random.default_rng(1)
    sequences = [random.integers(1, NUM_ITEMS, 8).tolist() for _ in range(60)]
    lengths = [0, 1, 1, 30, *random.integers(1, 12, 20)]
    histories = [random.integers(1, NUM_ITEMS + 1, length).tolist() for length in lengths]
    found = one_hop_candidates(index_of(sequences), histories)
    expected = [naive_candidates(sequences, history) for history in histories]
    assert {len(items) for items in expected} >= {0, KEPT}
    assert found.shape == (len(histories), KEPT)
    assert [row[row > 0].tolist() for row in found] == expected
    assert not found[:, 1:][found[:, :-1] == 0].any()  # empty slots stand last


def test_candidates_by_hand() -> None:
    sequences = [[1, 2, 3], [1, 3, 1, 4], [5, 9]]
    found = one_hop_candidates(index_of(sequences), [[1, 1], [3, 2], [7]])
    assert [row[row > 0].tolist() for row in found] == [[2, 3, 4], [1, 3], []]


def test_nobody_has_no_candidates() -> None:
    assert one_hop_candidates(index_of([[1, 2]]), []).shape == (0, KEPT)


def test_who_benefits_and_how_much_of_a_list_is_one_hop() -> None:
    candidates = np.array([[4, 2, 9], [7, 0, 0], [0, 0, 0]])
    assert benefits_from_memorization(candidates, np.array([9, 4, 1])).tolist() == [True, False, False]
    items = np.array([[2, 3, 4, 5, 6, 9], [7, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert one_hop_ratio(items, candidates).tolist() == [2 / 5, 1 / 2, 0]  # the sixth item does not count
