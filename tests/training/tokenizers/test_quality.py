"""The quality report against loops, and the overlap of titles against all pairs."""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import permutations

import numpy as np
import pytest

from tests.training.tokenizers.embeddings import SIZE
from training.tokenizers.interface import Tokenizer
from training.tokenizers.overlap import title_overlap
from training.tokenizers.quality import report


def test_report_is_what_a_loop_counts(tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray) -> None:
    tokenizer = tokenizers["rkmeans"]
    vectors = np.concatenate([vectors, vectors[:20]])  # certain collisions
    codes = tokenizer.encode(vectors)
    codes[:, 2] //= 2  # half of a codebook stays unused
    found = report(tokenizer, codes, vectors)
    groups = Counter(map(tuple, codes.tolist()))
    assert (found.items, found.unique, found.largest_group) == (len(vectors), len(groups), max(groups.values()))
    assert found.collision_rate == pytest.approx(sum(groups[tuple(row)] > 1 for row in codes.tolist()) / len(codes))
    for level, entry in enumerate(found.levels):
        shares = [count / len(codes) for count in Counter(codes[:, level].tolist()).values()]
        assert entry.level == level + 1
        assert entry.utilization == len(shares) / SIZE
        assert entry.entropy_bits == pytest.approx(-sum(share * math.log2(share) for share in shares))
    assert [entry.utilization for entry in found.levels] == [1, 1, 0.5]


def test_reconstruction_error_is_the_unexplained_share_of_the_variance(
    tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray
) -> None:
    tokenizer = tokenizers["rqvae"]
    codes = tokenizer.encode(vectors)
    unexplained = sum(((v - tokenizer.decode(c[None])[0]) ** 2).sum() for v, c in zip(vectors, codes, strict=True))
    variance = sum(((vector - vectors.mean(0)) ** 2).sum() for vector in vectors)
    assert report(tokenizer, codes, vectors).reconstruction_error == pytest.approx(unexplained / variance, rel=1e-4)


def test_the_overlap_is_a_mean_over_pairs_of_a_prefix() -> None:
    titles = ["Red tent", "red TENT, large", "blue tent", "a spoon", "", "fork"]
    prefixes = np.array([[0, 1], [0, 1], [0, 1], [2, 2], [3, 3], [3, 3]])
    words = [set(title.lower().replace(",", "").split()) for title in titles]
    pairs = [*permutations((0, 1, 2), 2), (4, 5), (5, 4)]
    weights = [3 / 5 / 6] * 6 + [2 / 5 / 2] * 2  # the first item is drawn among the five that are not alone
    expected = sum(
        w * len(words[a] & words[b]) / len(words[a] | words[b]) for w, (a, b) in zip(weights, pairs, strict=True)
    )
    assert title_overlap(titles, prefixes) == pytest.approx(expected, abs=0.01)


def test_items_that_share_nothing_have_no_overlap() -> None:
    assert title_overlap(["tent", "tent"], np.array([[0], [1]])) is None
    assert title_overlap(["tent", "tent"], np.empty((2, 0), dtype=np.int64)) == 1
