"""Finite scalar quantization (Mentzer et al., arXiv 2309.15505): a grid in place of codebooks.

An autoencoder squeezes each latent dimension between bounds and rounds it; nothing but the reconstruction is trained.
Every level of the semantic id is the number of a cell of a grid of a few dimensions. Levels are parallel codes, as in
OPQ: none refines another.
"""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor

from training.tokenizers.autoencoder import Autoencoder, AutoencoderOptions, LearnedTokenizer, train
from training.tokenizers.interface import Arrays, Vectors
from training.tokenizers.standard import Standard

FEWEST = 5  # values of a dimension, the paper's heuristic (section 4.1)
MARGIN = 1e-3  # how far the bounds lie beyond the outermost values


def grid(codebook_size: int) -> tuple[int, ...]:
    """Values of each dimension: as many dimensions of five or more as fit, with the most cells up to `codebook_size`.

    256 gives 7 x 6 x 6 = 252 cells. Fewer than five cells are one dimension.
    """
    dimensions = max(1, int(math.log(codebook_size + 0.5, FEWEST)))
    choices = range(min(FEWEST, codebook_size), codebook_size // FEWEST ** (dimensions - 1) + 1)
    fitting = (c for c in combinations_with_replacement(choices, dimensions) if math.prod(c) <= codebook_size)
    best: tuple[int, ...] = max(fitting, key=lambda c: (math.prod(c), -max(c)))
    return best[::-1]


class FSQNetwork(Autoencoder):
    """An autoencoder whose latent space is a grid, the same for each of D levels."""

    values: Tensor
    weights: Tensor

    def __init__(self, sizes: tuple[int, ...], cells: tuple[int, ...]) -> None:
        super().__init__(sizes)
        self.cells = cells
        self.register_buffer("values", torch.tensor(cells), persistent=False)
        weights = np.cumprod([1, *cells[:-1]])  # of the digits of a cell's number
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)

    def loss(self, inputs: Tensor) -> Tensor:
        """Mean squared error of the reconstruction."""
        bounded = self.bound(self.encoder(inputs).unflatten(1, (-1, len(self.cells))))
        rounded = bounded + (bounded.round() - bounded).detach()  # straight through
        return F.mse_loss(self.decode(rounded), inputs)

    def bound(self, latent: Tensor) -> Tensor:
        """Latents [B, D, dimensions] squeezed so that rounding leaves as many integers as a dimension has values."""
        half = (self.values - 1) * (1 + MARGIN) / 2
        offset = (self.values % 2 == 0) / 2  # an even number of values is not symmetric about 0
        return torch.tanh(latent + torch.atanh(offset / half)) * half - offset

    def codes(self, inputs: Tensor) -> Tensor:
        """The grid cell of the latent, level by level: codes [B, D] of standardised inputs [B, d]."""
        digits = self.bound(self.encoder(inputs).unflatten(1, (-1, len(self.cells)))).round().long() + self.values // 2
        return (digits * self.weights).sum(-1)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """The decoder's output for the centres of the cells: standardised vectors [B, d] of codes [B, D]."""
        digits = codes[..., None] // self.weights % self.values
        return self.decode((digits - self.values // 2).float())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights, sizes and grid."""
        return {"cells": np.array(self.cells), **super().arrays()}

    def decode(self, rounded: Tensor) -> Tensor:
        """The decoder's output for grid points [B, D, dimensions], which it sees as numbers in [-1, 1]."""
        return self.decoder((rounded / (self.values // 2)).flatten(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class FSQ(LearnedTokenizer):
    """A trained network, and the scale of its inputs."""

    kind: ClassVar[str] = "fsq"

    network: FSQNetwork

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        *,
        levels: int,
        codebook_size: int,
        options: AutoencoderOptions,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> Self:
        """Train on vectors [N, d]; `options.latent` is not used: each level has a grid of up to `codebook_size`."""
        standard = Standard.fit(vectors, norm=math.sqrt(vectors.shape[1]))
        inputs = torch.from_numpy(standard.apply(vectors)).to(device)
        torch.manual_seed(seed)
        cells = grid(codebook_size)
        network = FSQNetwork((vectors.shape[1], *options.hidden, levels * len(cells)), cells).to(device)
        train(network, inputs, options, seed=seed, description="FSQ", progress=progress)
        return cls(standard, network)

    @property
    def levels(self) -> int:  # noqa: D102
        return self.network.sizes[-1] // len(self.network.cells)

    @property
    def codebook_size(self) -> int:
        """Cells of the grid of a level."""
        return math.prod(self.network.cells)

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Self:  # noqa: D102
        network = FSQNetwork(tuple(arrays["sizes"].tolist()), tuple(arrays["cells"].tolist()))
        network.restore(arrays)
        return cls(Standard.of_arrays(arrays), network)
