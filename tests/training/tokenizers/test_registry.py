"""What every tokenizer promises, whatever its kind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from models.errors import BundleError, TrainingError
from tests.training.tokenizers.embeddings import DIMENSIONS, ITEMS, SIZE, embeddings
from training.tokenizers import registry
from training.tokenizers.interface import Tokenizer
from training.tokenizers.quality import reconstruction_error

each = pytest.mark.parametrize("name", registry.NAMES)


@each
def test_codes_are_codes_and_say_something(name: str, tokenizers: Mapping[str, Tokenizer], vectors: np.ndarray) -> None:
    tokenizer = tokenizers[name]
    codes = tokenizer.encode(vectors)
    assert (codes.shape, codes.dtype, tokenizer.levels) == ((ITEMS, 3), np.int64, 3)
    assert 0 <= codes.min() <= codes.max() < tokenizer.codebook_size <= SIZE
    assert tokenizer.decode(codes).shape == vectors.shape
    assert reconstruction_error(tokenizer, codes, vectors) < 0.5  # the mean vector alone has 1


@each
def test_a_saved_tokenizer_is_the_same(name: str, tokenizers: Mapping[str, Tokenizer], tmp_path: Path) -> None:
    tokenizer, unseen = tokenizers[name], embeddings(seed=1)
    tokenizer.save(tmp_path / "tokenizer.npz")
    loaded = registry.load(tmp_path / "tokenizer.npz")
    assert type(loaded) is type(tokenizer)
    assert (loaded.levels, loaded.codebook_size) == (tokenizer.levels, tokenizer.codebook_size)
    codes = tokenizer.encode(unseen)
    np.testing.assert_array_equal(loaded.encode(unseen), codes)
    np.testing.assert_array_equal(loaded.decode(codes), tokenizer.decode(codes))


@each
def test_the_same_seed_gives_the_same_codes(
    name: registry.TokenizerName,
    tokenizers: Mapping[str, Tokenizer],
    vectors: np.ndarray,
    options: registry.TokenizerOptions,
) -> None:
    again = registry.fit(name, vectors, options)
    np.testing.assert_array_equal(again.encode(vectors), tokenizers[name].encode(vectors))


@pytest.mark.parametrize("name", ["rkmeans", "rkmeans-balanced", "rqvae", "opq"])
def test_fewer_items_than_codes_are_refused(
    name: registry.TokenizerName, vectors: np.ndarray, options: registry.TokenizerOptions
) -> None:
    with pytest.raises(TrainingError, match=f"a codebook of {SIZE} needs at least as many items, got 7"):
        registry.fit(name, vectors[:7], options)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", kind=np.array("hash"))
    with pytest.raises(TrainingError, match="of kind rkmeans, rqvae, opq, fsq, got 'hash'"):
        registry.load(tmp_path / "new.npz")
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="must be an npz archive"):
        registry.load(tmp_path / "broken.npz")


def test_a_part_needs_a_dimension(vectors: np.ndarray) -> None:
    with pytest.raises(TrainingError, match=f"each of 11 levels a part .* got {DIMENSIONS}"):
        registry.fit("opq", vectors, registry.TokenizerOptions(levels=11, codebook_size=SIZE))
