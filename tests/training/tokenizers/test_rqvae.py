"""RQ-VAE against one code at a time, and what keeps it from collapsing."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.tokenizers.embeddings import SIZE, embeddings
from training.tokenizers import registry
from training.tokenizers.interface import Tokenizer
from training.tokenizers.quality import report
from training.tokenizers.rqvae import RQVAE, RQVAENetwork


@pytest.fixture(scope="module")
def rqvae(tokenizers: Mapping[str, Tokenizer]) -> RQVAE:
    found = tokenizers["rqvae"]
    assert isinstance(found, RQVAE)
    return found


def test_codes_are_the_nearest_of_the_latent_level_by_level(rqvae: RQVAE) -> None:
    unseen, network = embeddings(seed=1)[:100], rqvae.network
    codes, rebuilt = rqvae.encode(unseen), rqvae.decode(rqvae.encode(unseen))
    inputs = torch.from_numpy((unseen - rqvae.standard.mean) / rqvae.standard.scale)
    for row, latent in enumerate(network.encoder(inputs).double().numpy()):
        residual = latent
        for level, codebook in enumerate(network.codebooks.double().numpy()):
            assert codes[row, level] == ((codebook - residual) ** 2).sum(1).argmin()
            residual = residual - codebook[codes[row, level]]
        output = network.decoder(torch.from_numpy(latent - residual).float()).numpy()
        np.testing.assert_allclose(rebuilt[row], output * rqvae.standard.scale + rqvae.standard.mean, atol=1e-3)


def test_it_does_not_collapse(vectors: np.ndarray, options: registry.TokenizerOptions) -> None:
    """Five items a code. Without k-means and without moving dead codes, 14 % of the first level's codes are in use."""
    rqvae = registry.fit("rqvae", vectors, replace(options, codebook_size=64))
    found = report(rqvae, rqvae.encode(vectors), vectors)
    assert all(level.utilization > 0.9 for level in found.levels)
    assert all(level.entropy_bits > 5 for level in found.levels)


def test_inputs_are_standardised(rqvae: RQVAE, vectors: np.ndarray) -> None:
    inputs = rqvae.standard.apply(vectors)
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-5)
    assert np.square(inputs).mean() == pytest.approx(1, rel=1e-4)


def test_dead_codes_move_to_where_items_are(vectors: np.ndarray) -> None:
    torch.manual_seed(0)
    network = RQVAENetwork((10, 6), levels=2, codebook_size=SIZE)
    inputs = torch.from_numpy(vectors)
    with torch.no_grad():
        network.codebooks[:] = 1e3 + torch.arange(SIZE)[:, None]  # all items take the code at 0
        network.codebooks[:, 0] = 0
    network.loss(inputs)
    assert network.taken.tolist() == [[len(vectors)] + [0] * (SIZE - 1)] * 2
    network.move_dead_codes(inputs, np.random.default_rng(0))
    assert not network.codebooks[0, 0].any()  # a living code stays
    latents = network.encoder(inputs)
    for code in network.codebooks[0, 1:]:
        assert (latents - code).abs().max(1).values.min() < 1e-5
    assert not network.taken.any()


def test_codebooks_start_from_k_means(vectors: np.ndarray) -> None:
    """Each code of the first level is the mean of the latents that take it."""
    torch.manual_seed(0)
    network = RQVAENetwork((10, 6), levels=1, codebook_size=SIZE)
    network.start_from_kmeans(torch.from_numpy(vectors), restarts=1, seed=0)
    network.requires_grad_(False)
    inputs = torch.from_numpy(vectors)
    codes, latents = network.codes(inputs)[:, 0], network.encoder(inputs)
    for code, centroid in enumerate(network.codebooks[0]):
        torch.testing.assert_close(latents[codes == code].mean(0), centroid, atol=0.02, rtol=0)
