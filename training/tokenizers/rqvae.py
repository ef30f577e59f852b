"""RQ-VAE: residual quantization of a learned latent space (TIGER, arXiv 2305.05065, section 3.1).

What keeps it from collapsing to a few codes: standardised inputs and AdamW (see `autoencoder`), codebooks that start
from k-means of the untrained encoder's latents, and codes that no item took in an epoch moving to where items are.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import Progress
from torch import Tensor, nn

from training.tokenizers.autoencoder import Autoencoder, AutoencoderOptions, LearnedTokenizer, train
from training.tokenizers.interface import Arrays, Vectors, check_enough
from training.tokenizers.kmeans import kmeans
from training.tokenizers.standard import Standard

RESETS = 0.8  # the share of the epochs in which dead codes are moved; the others let all codes settle
INITIAL_ITERATIONS = 20  # of k-means


class RQVAENetwork(Autoencoder):
    """An autoencoder with D codebooks of V codes in its latent space of z dimensions."""

    taken: Tensor

    def __init__(self, sizes: tuple[int, ...], levels: int, codebook_size: int, commitment: float = 0.0) -> None:
        super().__init__(sizes)
        self.codebooks = nn.Parameter(torch.zeros(levels, codebook_size, sizes[-1]))
        self.commitment = commitment
        # How often each code was taken since dead codes were last moved.
        self.register_buffer("taken", torch.zeros(levels, codebook_size, dtype=torch.long), persistent=False)

    def loss(self, inputs: Tensor) -> Tensor:
        """Mean squared errors: of the reconstruction, of the codes, and of the latents, which commit to their codes."""
        latent: Tensor = self.encoder(inputs)
        residual, total, loss = latent, torch.zeros_like(latent), latent.new_zeros(())
        for level, codebook in enumerate(self.codebooks):
            codes = nearest_code(residual, codebook)
            self.taken[level] += torch.bincount(codes, minlength=len(codebook))
            chosen = codebook[codes]
            loss = loss + F.mse_loss(chosen, residual.detach())
            loss = loss + self.commitment * F.mse_loss(residual, chosen.detach())
            residual, total = residual - chosen.detach(), total + chosen.detach()
        straight_through = latent + (total - latent).detach()
        return loss + F.mse_loss(self.decoder(straight_through), inputs)

    def codes(self, inputs: Tensor) -> Tensor:
        """Level by level the code nearest to what is left over of the latent: [B, D] of standardised inputs [B, d]."""
        residual, codes = self.encoder(inputs), []
        for codebook in self.codebooks:
            codes.append(nearest_code(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return torch.stack(codes, dim=1)

    def reconstruct(self, codes: Tensor) -> Tensor:
        """The decoder's output for the sum of the codes: standardised vectors [B, d] of codes [B, D]."""
        levels = torch.arange(codes.shape[1])
        return self.decoder(self.codebooks[levels, codes].sum(1))  # type: ignore[no-any-return]

    @torch.no_grad()
    def start_from_kmeans(self, inputs: Tensor, restarts: int, seed: int) -> None:
        """Cluster the latents of inputs [N, d], level by level."""
        residual = self.encoder(inputs)
        for level, codebook in enumerate(self.codebooks):
            found = kmeans(
                residual.cpu().numpy(),
                len(codebook),
                restarts=restarts,
                iterations=INITIAL_ITERATIONS,
                seed=seed + level,
            )
            codebook.copy_(torch.from_numpy(found))
            residual = residual - codebook[nearest_code(residual, codebook)]

    @torch.no_grad()
    def move_dead_codes(self, inputs: Tensor, random: np.random.Generator) -> None:
        """Put each code that was not taken on what is left over at its level of some item of inputs [N, d]."""
        some = inputs[torch.from_numpy(random.integers(len(inputs), size=self.codebooks.shape[1])).to(inputs.device)]
        residual = self.encoder(some)
        for codebook, taken in zip(self.codebooks, self.taken, strict=True):
            following = residual - codebook[nearest_code(residual, codebook)]
            dead = taken == 0
            codebook[dead] = residual[dead]
            residual = following
        self.taken.zero_()


@dataclass(frozen=True)
class RQVAE(LearnedTokenizer):
    """A trained network, and the scale of its inputs."""

    kind: ClassVar[str] = "rqvae"

    network: RQVAENetwork

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        *,
        levels: int,
        codebook_size: int,
        options: AutoencoderOptions,
        restarts: int = 5,
        seed: int = 0,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> Self:
        """Train on vectors [N, d].

        Raises:
            TrainingError: fewer vectors than codes of a level.
        """
        check_enough(vectors, codebook_size)
        standard = Standard.fit(vectors, norm=math.sqrt(vectors.shape[1]))
        inputs = torch.from_numpy(standard.apply(vectors)).to(device)
        torch.manual_seed(seed)
        sizes = (vectors.shape[1], *options.hidden, options.latent)
        network = RQVAENetwork(sizes, levels, codebook_size, options.commitment).to(device)
        network.start_from_kmeans(inputs, restarts, seed)
        random = np.random.default_rng((seed, 1))

        def after_epoch(epoch: int) -> None:
            if epoch < RESETS * options.epochs:
                network.move_dead_codes(inputs, random)

        train(network, inputs, options, seed=seed, description="RQ-VAE", progress=progress, after_epoch=after_epoch)
        return cls(standard, network)

    @property
    def levels(self) -> int:  # noqa: D102
        return self.network.codebooks.shape[0]

    @property
    def codebook_size(self) -> int:  # noqa: D102
        return self.network.codebooks.shape[1]

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Self:  # noqa: D102
        levels, size, _ = arrays["codebooks"].shape
        network = RQVAENetwork(tuple(arrays["sizes"].tolist()), levels, size)
        network.restore(arrays)
        return cls(Standard.of_arrays(arrays), network)


def nearest_code(latent: Tensor, codebook: Tensor) -> Tensor:
    """For each of latent [B, z], the nearest of codebook [V, z]."""
    return ((codebook**2).sum(1) - 2 * latent @ codebook.T).argmin(1)
