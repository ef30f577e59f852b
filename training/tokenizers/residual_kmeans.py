"""Residual k-means: each level clusters what the levels before it left over.

Residual quantization as in TIGER (arXiv 2305.05065, section 3.1), with k-means codebooks as in MemGen (arXiv
2603.19809, section 4) instead of learned ones.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from rich.progress import Progress

from training.tokenizers.balance import balance
from training.tokenizers.interface import Arrays, Codes, Tokenizer, Vectors, check_enough, steps
from training.tokenizers.kmeans import kmeans, nearest
from training.tokenizers.standard import Standard


@dataclass(frozen=True)
class ResidualKMeans(Tokenizer):
    """Codebooks [D, V, d], fitted on standardised vectors."""

    kind: ClassVar[str] = "rkmeans"

    standard: Standard
    codebooks: Vectors
    prices: Vectors | None = None  # [D, V], added to squared distances; only of balanced levels

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        *,
        levels: int,
        codebook_size: int,
        restarts: int = 5,
        iterations: int = 50,
        balanced: bool = False,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Fit `levels` codebooks of `codebook_size` centroids to vectors [N, d].

        Raises:
            TrainingError: fewer vectors than centroids.
        """
        check_enough(vectors, codebook_size)
        standard = Standard.fit(vectors)
        residual = standard.apply(vectors)
        codebooks, prices = [], []
        for level in steps(levels, "levels of k-means", progress):
            codebook = kmeans(residual, codebook_size, restarts=restarts, iterations=iterations, seed=seed + level)
            price = None
            if balanced:
                codebook, price = balance(residual, codebook)
                prices.append(price)
            codebooks.append(codebook)
            residual = residual - codebook[_cheapest(residual, codebook, price)]
        return cls(standard, np.stack(codebooks), np.stack(prices) if balanced else None)

    @property
    def levels(self) -> int:  # noqa: D102
        return len(self.codebooks)

    @property
    def codebook_size(self) -> int:  # noqa: D102
        return int(self.codebooks.shape[1])

    def encode(self, vectors: Vectors) -> Codes:
        """Level by level the nearest centroid to what is left over; the cheapest where levels are balanced."""
        residual = self.standard.apply(vectors)
        codes = []
        for level, codebook in enumerate(self.codebooks):
            codes.append(_cheapest(residual, codebook, None if self.prices is None else self.prices[level]))
            residual = residual - codebook[codes[-1]]
        return np.stack(codes, axis=1)

    def decode(self, codes: Codes) -> Vectors:
        """The sum of the codes' centroids."""
        return self.standard.invert(sum(book[column] for book, column in zip(self.codebooks, codes.T, strict=True)))

    def arrays(self) -> Arrays:  # noqa: D102
        prices = {} if self.prices is None else {"prices": self.prices}
        return {"codebooks": self.codebooks, **prices, **self.standard.arrays()}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Self:  # noqa: D102
        return cls(Standard.of_arrays(arrays), arrays["codebooks"], arrays.get("prices"))


def _cheapest(vectors: Vectors, codebook: Vectors, prices: Vectors | None) -> Codes:
    """The code of least squared distance plus price."""
    if prices is None:
        return nearest(vectors, codebook)
    # A price is the square of one more coordinate, which is 0 in all vectors.
    return nearest(np.pad(vectors, ((0, 0), (0, 1))), np.c_[codebook, np.sqrt(prices)].astype(np.float32))
