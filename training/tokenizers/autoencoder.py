"""The autoencoder under RQ-VAE and FSQ, and its training.

Inputs are standardised and the optimiser is AdamW at 1e-3: with the published settings of TIGER's RQ-VAE (Adagrad at
.4 on vectors of length 1), reproductions collapse to one code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn

from training.tokenizers.interface import Arrays, Codes, Tokenizer, Vectors, steps
from training.tokenizers.standard import Standard

CHUNK = 65_536  # rows in one forward pass without gradients


@dataclass(frozen=True)
class AutoencoderOptions:
    """Sizes and schedule. TIGER has hidden 512, 256, 128 and latent 32 (arXiv 2305.05065, section 4)."""

    hidden: tuple[int, ...] = (256, 128)  # of the encoder; the decoder mirrors it
    latent: int = 32  # of RQ-VAE; FSQ has as many dimensions as its codes need
    epochs: int = 100
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    commitment: float = 0.25  # beta, of RQ-VAE


class Autoencoder(nn.Module):
    """Two mirrored MLPs of the given sizes, input first and latent last; what lies between is a subclass's matter."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.encoder = _mlp(self.sizes)
        self.decoder = _mlp(self.sizes[::-1])

    def loss(self, inputs: Tensor) -> Tensor:
        """What training minimises, for inputs [B, d]."""
        raise NotImplementedError

    def codes(self, inputs: Tensor) -> Tensor:
        """Codes [B, D] of standardised inputs [B, d]."""
        raise NotImplementedError

    def reconstruct(self, codes: Tensor) -> Tensor:
        """Standardised vectors [B, d] of codes [B, D]."""
        raise NotImplementedError

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights and sizes."""
        weights = {name: tensor.cpu().numpy() for name, tensor in self.state_dict().items()}
        return {"sizes": np.array(self.sizes), **weights}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights that `arrays` gave."""
        self.load_state_dict({name: torch.from_numpy(arrays[name]) for name in self.state_dict()})
        self.eval().requires_grad_(False)


@dataclass(frozen=True)
class LearnedTokenizer(Tokenizer):
    """A trained autoencoder, and the scale of its inputs."""

    standard: Standard
    network: Autoencoder

    def encode(self, vectors: Vectors) -> Codes:
        """The network's codes of the standardised vectors."""
        return in_chunks(self.network.codes, self.standard.apply(vectors))

    def decode(self, codes: Codes) -> Vectors:
        """The decoder's output for the codes, in the scale of the vectors."""
        return self.standard.invert(in_chunks(self.network.reconstruct, codes))

    def arrays(self) -> Arrays:  # noqa: D102
        return {**self.network.arrays(), **self.standard.arrays()}


def train(
    network: Autoencoder,
    inputs: Tensor,
    options: AutoencoderOptions,
    *,
    seed: int,
    description: str,
    progress: Progress | None = None,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train on inputs [N, d], which lie on the network's device, with a cosine schedule to 0; leave it on the CPU."""
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    batches = -(-len(inputs) // options.batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * batches)
    network.train()
    for epoch in steps(options.epochs, f"epochs of {description}", progress):
        for rows in np.array_split(random.permutation(len(inputs)), batches):
            loss = network.loss(inputs[torch.from_numpy(rows).to(inputs.device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
        after_epoch(epoch)
    network.cpu().eval().requires_grad_(False)


def in_chunks(function: Callable[[Tensor], Tensor], rows: Vectors | NDArray[np.int64]) -> NDArray[Any]:
    """`function` of all rows, without gradients and a chunk at a time."""
    with torch.inference_mode():
        chunks = [function(torch.from_numpy(rows[at : at + CHUNK])) for at in range(0, len(rows), CHUNK)]
        return torch.cat(chunks).numpy()


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
