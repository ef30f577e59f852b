"""OPQ and FSQ, the tokenizers whose levels are parallel, against one part or one dimension at a time."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from tests.training.tokenizers.embeddings import DIMENSIONS, SIZE, embeddings
from training.tokenizers.fsq import FSQ, FSQNetwork, grid
from training.tokenizers.interface import Tokenizer
from training.tokenizers.opq import OPQ
from training.tokenizers.quality import reconstruction_error


@pytest.fixture(scope="module")
def opq(tokenizers: Mapping[str, Tokenizer]) -> OPQ:
    found = tokenizers["opq"]
    assert isinstance(found, OPQ)
    return found


@pytest.fixture(scope="module")
def fsq(tokenizers: Mapping[str, Tokenizer]) -> FSQ:
    found = tokenizers["fsq"]
    assert isinstance(found, FSQ)
    return found


def test_opq_takes_the_nearest_centroid_of_each_part(opq: OPQ) -> None:
    unseen = embeddings(seed=1)[:100]
    width = DIMENSIONS // 3
    codes, rebuilt = opq.encode(unseen), opq.decode(opq.encode(unseen))
    for row, vector in enumerate(unseen.astype(np.float64)):
        rotated = opq.rotation @ ((vector - opq.standard.mean) / opq.standard.scale)
        for level in range(3):
            distances = ((opq.codebooks[level] - rotated[level * width : (level + 1) * width]) ** 2).sum(1)
            assert codes[row, level] == distances.argmin()
        inside = np.concatenate([opq.codebooks[level][codes[row, level]] for level in range(3)])
        expected = (inside @ opq.rotation) * opq.standard.scale + opq.standard.mean
        np.testing.assert_allclose(rebuilt[row], expected, atol=1e-4)


def test_the_rotation_is_one(opq: OPQ) -> None:
    assert opq.rotation.shape == (DIMENSIONS // 3 * 3, DIMENSIONS)
    np.testing.assert_allclose(opq.rotation @ opq.rotation.T, np.eye(len(opq.rotation)), atol=1e-5)


def test_the_rotation_pays(opq: OPQ, vectors: np.ndarray) -> None:
    """All variance in the first part: without a rotation, two of three codebooks have nothing to say."""
    lopsided = vectors.copy()
    lopsided[:, 3:] *= 0.01
    fitted = OPQ.fit(lopsided, levels=3, codebook_size=SIZE, restarts=1)
    plain = OPQ.fit(lopsided[:, :3], levels=1, codebook_size=SIZE, restarts=1)
    errors = [
        reconstruction_error(fitted, fitted.encode(lopsided), lopsided),
        reconstruction_error(plain, plain.encode(lopsided[:, :3]), lopsided[:, :3]),
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize(
    ("size", "cells"),
    [(256, (7, 6, 6)), (1024, (8, 5, 5, 5)), (128, (5, 5, 5)), (125, (5, 5, 5)), (64, (8, 8)), (8, (8,)), (3, (3,))],
)
def test_a_grid_is_the_largest_of_five_or_more_values(size: int, cells: tuple[int, ...]) -> None:
    assert grid(size) == cells
    assert math.prod(cells) <= size


def test_fsq_rounds_each_dimension_to_the_nearest_of_its_values(fsq: FSQ) -> None:
    """Digits against a search among all values of the squeezed latent, in float64."""
    network, unseen = FSQNetwork((DIMENSIONS, 16, 6), (5, 4)), embeddings(seed=1)[:50]
    network.requires_grad_(False)
    codes = network.codes(torch.from_numpy(unseen)).numpy()
    latents = network.encoder(torch.from_numpy(unseen)).double().numpy().reshape(50, 3, 2)
    used = set()
    for row in range(50):
        for level in range(3):
            digits = []
            for dimension, values in enumerate(network.cells):
                half, offset = (values - 1) * 1.001 / 2, 0.5 * (values % 2 == 0)
                squeezed = np.tanh(latents[row, level, dimension] + np.arctanh(offset / half)) * half - offset
                digits.append(int(np.abs(np.arange(values) - values // 2 - squeezed).argmin()))
            assert codes[row, level] == digits[0] + 5 * digits[1]
            used.add(codes[row, level])
    assert len(used) > 3
    assert fsq.codebook_size == SIZE


def test_every_cell_of_a_grid_can_be_reached() -> None:
    network = FSQNetwork((2, 2), (5, 4))
    far = torch.tensor([-50.0, 0.0, 50.0])
    assert network.bound(torch.stack([far, far], 1)[:, None]).round()[:, 0].tolist() == [[-2, -2], [0, 0], [2, 1]]
