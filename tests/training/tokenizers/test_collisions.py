"""The collision digit, and last codes dealt out anew, against a count and a search of all possibilities."""

from collections import Counter
from collections.abc import Mapping
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import TrainingError
from tests.training.tokenizers.embeddings import SIZE
from training.tokenizers import registry
from training.tokenizers.collisions import add_collision_digit, reassign, unique_codes
from training.tokenizers.interface import Tokenizer
from training.tokenizers.residual_kmeans import ResidualKMeans


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_the_collision_digit_numbers_the_items_of_a_prefix_in_order(prefixes: list[tuple[int, int]]) -> None:
    codes = np.array(prefixes, dtype=np.int64)
    seen: Counter[tuple[int, int]] = Counter()
    expected = []
    for prefix in prefixes:
        expected.append([*prefix, seen[prefix]])
        seen[prefix] += 1
    unique = add_collision_digit(codes, codebook_size=40)
    assert unique.tolist() == expected
    assert len(np.unique(unique, axis=0)) == len(prefixes)


def test_a_group_larger_than_a_digit_is_refused() -> None:
    codes = np.array([[1, 2]] * 5 + [[0, 0]])
    assert add_collision_digit(codes, 5)[:, 2].tolist() == [0, 1, 2, 3, 4, 0]
    with pytest.raises(TrainingError, match="at most 4 items may share a code prefix, got 5"):
        add_collision_digit(codes, 4)


@pytest.mark.parametrize("name", registry.NAMES)
def test_reassigned_codes_are_unique(name: str, tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray) -> None:
    tokenizer = tokenizers[name]
    raw = tokenizer.encode(vectors)
    _, group, sizes = np.unique(raw[:, :-1], axis=0, return_inverse=True, return_counts=True)
    fits = sizes[group] <= SIZE
    items, codes = vectors[fits], raw[fits]
    assert len(np.unique(codes, axis=0)) < len(codes)
    unique = unique_codes(tokenizer, items, codes, "reassign", SIZE)
    assert unique.shape == codes.shape
    assert len(np.unique(unique, axis=0)) == len(codes)
    np.testing.assert_array_equal(unique[:, :-1], codes[:, :-1])
    assert 0 <= unique.min() <= unique.max() < tokenizer.codebook_size
    changed = (unique != codes).any(1)
    assert changed.any()
    shared = Counter(map(tuple, codes.tolist()))
    crowded = {row[:-1] for row, count in shared.items() if count > 1}
    assert all(tuple(row[:-1]) in crowded for row in codes[changed].tolist())  # where none collide, none moves


@given(st.integers(0, 1000), st.integers(2, 4))
def test_last_codes_are_dealt_out_at_the_least_error(seed: int, items: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((40, 3)).astype(np.float32)
    tokenizer = ResidualKMeans.fit(vectors, levels=2, codebook_size=5, restarts=1, iterations=2)
    crowd = vectors[:1] + 0.05 * random.standard_normal((items, 3)).astype(np.float32)
    codes = np.repeat(tokenizer.encode(vectors[:1]), items, axis=0)

    def error(last: np.ndarray) -> float:
        return float(np.square(crowd - tokenizer.decode(np.c_[codes[:, 0], last])).sum())

    best = min(error(np.array(last)) for last in permutations(range(5), items))
    assert error(reassign(tokenizer, crowd, codes)[:, 1]) == pytest.approx(best, rel=1e-4)


def test_one_level_is_one_group(vectors: np.ndarray) -> None:
    tokenizer = ResidualKMeans.fit(vectors, levels=1, codebook_size=SIZE, restarts=1)
    same = np.repeat(vectors[:1], SIZE, axis=0)
    unique = reassign(tokenizer, same, tokenizer.encode(same))
    assert sorted(unique[:, 0]) == list(range(SIZE))


def test_more_items_than_last_codes_are_refused(tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray) -> None:
    tokenizer = tokenizers["rkmeans"]
    same = np.repeat(vectors[:1], SIZE + 1, axis=0)
    with pytest.raises(TrainingError, match=f"at most {SIZE} items may share their first 2 codes .* got {SIZE + 1}"):
        reassign(tokenizer, same, tokenizer.encode(same))
