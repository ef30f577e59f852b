"""Residual k-means against one centroid at a time, the collision digit, and the quality report."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import TrainingError
from training.tokenizer import ResidualKMeans, add_collision_digit, report

ITEMS, SIZE = 300, 8


def embeddings(seed: int = 0) -> np.ndarray:
    """Vectors around a dozen centres, far from the origin, so that centring matters."""
    random = np.random.default_rng(seed)
    centres = 3 * random.standard_normal((12, 10))
    return (5 + centres[random.integers(12, size=ITEMS)] + random.standard_normal((ITEMS, 10))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return embeddings()


@pytest.fixture(scope="module")
def tokenizer(vectors: np.ndarray) -> ResidualKMeans:
    return ResidualKMeans.fit(vectors, levels=3, codebook_size=SIZE, restarts=2, iterations=15)


def encode_by_loop(tokenizer: ResidualKMeans, vector: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The nearest centroid, level by level, in float64."""
    residual = (vector.astype(np.float64) - tokenizer.mean) / tokenizer.scale
    codes = []
    for codebook in tokenizer.codebooks.astype(np.float64):
        codes.append(int(np.argmin([((residual - centroid) ** 2).sum() for centroid in codebook])))
        residual = residual - codebook[codes[-1]]
    return codes, residual


def test_codes_are_the_nearest_centroids_level_by_level(tokenizer: ResidualKMeans) -> None:
    unseen = embeddings(seed=1)[:100]  # a new item gets its semantic id without retraining
    codes, residual = tokenizer.encode(unseen)
    for row, vector in enumerate(unseen):
        expected_codes, expected_residual = encode_by_loop(tokenizer, vector)
        assert codes[row].tolist() == expected_codes
        np.testing.assert_allclose(residual[row], expected_residual, atol=1e-5)


def test_codes_and_residual_add_up_to_the_vector(tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    codes, residual = tokenizer.encode(vectors)
    rebuilt = sum(tokenizer.codebooks[level][codes[:, level]] for level in range(3)) + residual
    np.testing.assert_allclose(rebuilt * tokenizer.scale + tokenizer.mean, vectors, atol=1e-4)


def test_centroids_are_the_means_of_what_they_collect(tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    """k-means has converged: moving any centroid of the first level to the mean of its items changes nothing."""
    codes, _ = tokenizer.encode(vectors)
    standard = (vectors - tokenizer.mean) / tokenizer.scale
    for code, centroid in enumerate(tokenizer.codebooks[0]):
        np.testing.assert_allclose(standard[codes[:, 0] == code].mean(0), centroid, atol=1e-3)


def test_every_level_explains_more(vectors: np.ndarray) -> None:
    errors = []
    for levels in (1, 2, 3, 4):
        tokenizer = ResidualKMeans.fit(vectors, levels=levels, codebook_size=SIZE, restarts=1, iterations=10)
        errors.append(report(*tokenizer.encode(vectors), SIZE).reconstruction_error)
    assert errors[0] < 1
    assert all(after < 0.9 * before for before, after in pairwise(errors))


def test_the_same_seed_gives_the_same_codebooks(vectors: np.ndarray, tokenizer: ResidualKMeans) -> None:
    def codebooks(seed: int) -> np.ndarray:
        fitted = ResidualKMeans.fit(vectors, levels=3, codebook_size=SIZE, restarts=2, iterations=15, seed=seed)
        return fitted.codebooks

    np.testing.assert_array_equal(codebooks(0), tokenizer.codebooks)
    assert not np.array_equal(codebooks(7), tokenizer.codebooks)


def test_a_saved_tokenizer_is_the_same(tmp_path: Path, tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    tokenizer.save(tmp_path / "tokenizer.npz")
    loaded = ResidualKMeans.load(tmp_path / "tokenizer.npz")
    assert (loaded.scale, loaded.mean.dtype, loaded.codebooks.dtype) == (tokenizer.scale, np.float32, np.float32)
    np.testing.assert_array_equal(loaded.mean, tokenizer.mean)
    np.testing.assert_array_equal(loaded.codebooks, tokenizer.codebooks)
    np.testing.assert_array_equal(loaded.encode(vectors)[0], tokenizer.encode(vectors)[0])


def test_fewer_items_than_centroids_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=f"a codebook of {SIZE} needs at least as many items, got 7"):
        ResidualKMeans.fit(vectors[:7], levels=1, codebook_size=SIZE)
    with_one_each = ResidualKMeans.fit(vectors[:8], levels=1, codebook_size=SIZE)
    assert sorted(with_one_each.encode(vectors[:8])[0][:, 0]) == list(range(8))


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


def test_report_is_what_a_loop_counts(tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    vectors = np.concatenate([vectors, vectors[:20]])  # certain collisions
    codes, residual = tokenizer.encode(vectors)
    found = report(codes, residual, codebook_size=16)  # half of every codebook stays unused
    groups = Counter(map(tuple, codes.tolist()))
    assert (found.items, found.unique, found.largest_group) == (len(vectors), len(groups), max(groups.values()))
    assert found.collision_rate == pytest.approx(sum(groups[tuple(row)] > 1 for row in codes.tolist()) / len(codes))
    for level, entry in enumerate(found.levels):
        shares = [count / len(codes) for count in Counter(codes[:, level].tolist()).values()]
        assert entry.level == level + 1
        assert entry.utilization == len(shares) / 16
        assert entry.entropy_bits == pytest.approx(-sum(share * math.log2(share) for share in shares))


def test_reconstruction_error_is_the_unexplained_share_of_the_variance(
    tokenizer: ResidualKMeans, vectors: np.ndarray
) -> None:
    codes, residual = tokenizer.encode(vectors)
    rebuilt = sum(tokenizer.codebooks[level][codes[:, level]] for level in range(3)) * tokenizer.scale + tokenizer.mean
    unexplained = ((vectors - rebuilt) ** 2).sum() / ((vectors - vectors.mean(0)) ** 2).sum()
    assert report(codes, residual, SIZE).reconstruction_error == pytest.approx(unexplained, rel=1e-4)
