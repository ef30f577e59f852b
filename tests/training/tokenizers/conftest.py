"""Fixtures of all tests of tokenizers."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.training.tokenizers.embeddings import SIZE, embeddings
from training.tokenizers import registry
from training.tokenizers.autoencoder import AutoencoderOptions
from training.tokenizers.interface import Tokenizer


@pytest.fixture(scope="session")
def vectors() -> np.ndarray:
    return embeddings()


@pytest.fixture(scope="session")
def options() -> registry.TokenizerOptions:
    """Three levels of 8 codes, and an autoencoder that trains in a second."""
    small = AutoencoderOptions(hidden=(32,), latent=6, epochs=40, batch_size=64, learning_rate=5e-3)
    return registry.TokenizerOptions(levels=3, codebook_size=SIZE, restarts=2, autoencoder=small)


@pytest.fixture(scope="session")
def tokenizers(vectors: np.ndarray, options: registry.TokenizerOptions) -> Mapping[str, Tokenizer]:
    return {name: registry.fit(name, vectors, options) for name in registry.NAMES}
