"""Residual k-means against one centroid at a time, and its balanced form."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from models.errors import TrainingError
from tests.training.tokenizers.embeddings import ITEMS, SIZE, embeddings
from training.tokenizers import registry
from training.tokenizers.quality import reconstruction_error
from training.tokenizers.residual_kmeans import ResidualKMeans


@pytest.fixture(scope="module")
def tokenizer(vectors: np.ndarray) -> ResidualKMeans:
    return ResidualKMeans.fit(vectors, levels=3, codebook_size=SIZE, restarts=2, iterations=15)


@pytest.fixture(scope="module")
def balanced(vectors: np.ndarray) -> ResidualKMeans:
    return ResidualKMeans.fit(vectors, levels=3, codebook_size=SIZE, restarts=1, iterations=10, balanced=True)


def encode_by_loop(tokenizer: ResidualKMeans, vector: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Level by level the centroid of least squared distance plus price, in float64; and what is left over."""
    prices = np.zeros((3, SIZE)) if tokenizer.prices is None else tokenizer.prices
    residual = (vector.astype(np.float64) - tokenizer.standard.mean) / tokenizer.standard.scale
    codes = []
    for codebook, dear in zip(tokenizer.codebooks.astype(np.float64), prices, strict=True):
        costs = [((residual - centroid) ** 2).sum() + price for centroid, price in zip(codebook, dear, strict=True)]
        codes.append(int(np.argmin(costs)))
        residual = residual - codebook[codes[-1]]
    return codes, residual


@pytest.mark.parametrize("name", ["tokenizer", "balanced"])
def test_codes_are_the_nearest_centroids_level_by_level(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: ResidualKMeans = request.getfixturevalue(name)
    unseen = embeddings(seed=1)[:100]  # a new item gets its semantic id without retraining
    codes = tokenizer.encode(unseen)
    rebuilt = tokenizer.decode(codes)
    for row, vector in enumerate(unseen):
        expected, residual = encode_by_loop(tokenizer, vector)
        assert codes[row].tolist() == expected
        np.testing.assert_allclose(vector - rebuilt[row], residual * tokenizer.standard.scale, atol=1e-4)


def test_centroids_are_the_means_of_what_they_collect(tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    """k-means has converged: moving any centroid of the first level to the mean of its items changes nothing."""
    codes = tokenizer.encode(vectors)
    standard = (vectors - tokenizer.standard.mean) / tokenizer.standard.scale
    for code, centroid in enumerate(tokenizer.codebooks[0]):
        np.testing.assert_allclose(standard[codes[:, 0] == code].mean(0), centroid, atol=1e-3)


def test_every_level_explains_more(vectors: np.ndarray) -> None:
    errors = []
    for levels in (1, 2, 3, 4):
        tokenizer = ResidualKMeans.fit(vectors, levels=levels, codebook_size=SIZE, restarts=1, iterations=10)
        errors.append(reconstruction_error(tokenizer, tokenizer.encode(vectors), vectors))
    assert errors[0] < 1
    assert all(after < 0.9 * before for before, after in pairwise(errors))


def test_the_same_seed_gives_the_same_codebooks(vectors: np.ndarray, tokenizer: ResidualKMeans) -> None:
    def codebooks(seed: int) -> np.ndarray:
        fitted = ResidualKMeans.fit(vectors, levels=3, codebook_size=SIZE, restarts=2, iterations=15, seed=seed)
        return fitted.codebooks

    np.testing.assert_array_equal(codebooks(0), tokenizer.codebooks)
    assert not np.array_equal(codebooks(7), tokenizer.codebooks)


def test_balanced_levels_hold_equally_many_items(
    vectors: np.ndarray, tokenizer: ResidualKMeans, balanced: ResidualKMeans
) -> None:
    def largest(fitted: ResidualKMeans) -> int:
        return max(int(np.bincount(column).max()) for column in fitted.encode(vectors).T)

    fair = ITEMS / SIZE
    assert largest(balanced) <= 1.2 * fair < 1.5 * fair < largest(tokenizer)


def test_balance_costs_little(vectors: np.ndarray, tokenizer: ResidualKMeans, balanced: ResidualKMeans) -> None:
    plain, even = (reconstruction_error(t, t.encode(vectors), vectors) for t in (tokenizer, balanced))
    assert even < 1.3 * plain


def test_a_file_of_earlier_releases_is_read(tmp_path: Path, tokenizer: ResidualKMeans, vectors: np.ndarray) -> None:
    """It has no kind and no prices."""
    standard = tokenizer.standard
    np.savez(tmp_path / "old.npz", codebooks=tokenizer.codebooks, mean=standard.mean, scale=np.float64(standard.scale))
    loaded = registry.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(loaded.encode(vectors), tokenizer.encode(vectors))


def test_fewer_items_than_centroids_are_refused(vectors: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=f"a codebook of {SIZE} needs at least as many items, got 7"):
        ResidualKMeans.fit(vectors[:7], levels=1, codebook_size=SIZE)
    with_one_each = ResidualKMeans.fit(vectors[:8], levels=1, codebook_size=SIZE)
    assert sorted(with_one_each.encode(vectors[:8])[:, 0]) == list(range(8))
