"""Neighbours of items against plain loops over users and over pairs of items."""

from collections import Counter

import numpy as np
import pytest

from training import neighbours
from training.neighbours import collaborative_neighbours, semantic_neighbours

ITEMS = 40
Lists = list[list[int]]


def sequences_of(random: np.random.Generator, users: int = 60) -> Lists:
    """Items 1..ITEMS - 5; repeats happen, and some users have one event or none."""
    return [random.integers(1, ITEMS - 4, length).tolist() for length in (0, 1, *random.integers(2, 12, users))]


def arrays(sequences: Lists) -> list[np.ndarray]:
    return [np.array(sequence, dtype=np.int32) for sequence in sequences]


def naive_collaborative(sequences: Lists, window: int, k: int) -> Lists:
    together: Counter[tuple[int, int]] = Counter()
    for sequence in sequences:
        together.update(
            {
                (anchor, other)
                for t, anchor in enumerate(sequence)
                for j, other in enumerate(sequence)
                if 0 < abs(t - j) <= window and anchor != other
            }
        )
    popularity = Counter(item for sequence in sequences for item in sequence)
    found: Lists = [[] for _ in range(ITEMS + 1)]
    for (anchor, other), _ in sorted(together.items(), key=lambda e: (-e[1], -popularity[e[0][1]], e[0][1])):
        found[anchor].append(other)
    return [others[:k] for others in found]


@pytest.mark.parametrize(("window", "k"), [(1, 3), (5, 5), (20, 100)])
def test_collaborative_neighbours_are_those_of_a_loop(window: int, k: int) -> None:
    sequences = sequences_of(np.random.default_rng(window))
    found = collaborative_neighbours(arrays(sequences), ITEMS, window, k)
    assert found.shape == (ITEMS + 1, k)
    assert [row[row > 0].tolist() for row in found] == naive_collaborative(sequences, window, k)
    assert not found[:, 1:][found[:, :-1] == 0].any()  # empty slots stand last


def test_a_user_counts_once_and_no_item_is_its_own_neighbour() -> None:
    sequences = [[1, 2, 1, 2, 1, 2], [1, 3], [3, 1], [4, 4]]
    found = collaborative_neighbours(arrays(sequences), 5, 5, 2)
    assert found.tolist() == [[0, 0], [3, 2], [1, 0], [1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("block", [7, 1024])
def test_semantic_neighbours_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    random = np.random.default_rng(2)
    sequences = sequences_of(random)
    vectors = random.normal(size=(ITEMS, 6)).astype(np.float32)
    vectors[2] = 0  # an item without text
    known = sorted({item for sequence in sequences for item in sequence})
    assert 3 in known
    assert len(known) < ITEMS
    found = semantic_neighbours(arrays(sequences), vectors, 5)
    for item in range(ITEMS + 1):
        if item not in known:
            assert not found[item].any()
            continue
        cosines = {}
        for other in known:
            norms = float(np.linalg.norm(vectors[item - 1]) * np.linalg.norm(vectors[other - 1]))
            if other != item:
                cosines[other] = float(vectors[item - 1] @ vectors[other - 1]) / norms if norms else 0.0
        if item == 3:
            assert len(set(found[item].tolist())) == 5
            assert set(found[item].tolist()) <= set(cosines)
        else:
            assert found[item].tolist() == sorted(cosines, key=lambda other: -cosines[other])[:5]


def test_few_items_have_few_neighbours() -> None:
    vectors = np.eye(3, dtype=np.float32)
    pair = [np.array([3, 1], dtype=np.int32)]
    assert semantic_neighbours(pair, vectors, 2).tolist() == [[0, 0], [3, 0], [0, 0], [1, 0]]
    alone = [np.array([2], dtype=np.int32)]
    assert not semantic_neighbours(alone, vectors, 2).any()
    assert not collaborative_neighbours(alone, 3, 5, 2).any()
