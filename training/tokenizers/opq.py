"""Optimized product quantization (Ge et al., CVPR 2013): parallel codes, one for each part of a rotated vector.

The rotation (by faiss) is fitted together with the codebooks so that the parts are as independent, and as equal in
variance, as they can be. Codes of different levels do not refine each other: a prefix is a part, not an approximation.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import faiss
import numpy as np
from rich.progress import Progress

from models.errors import TrainingError
from training.tokenizers.interface import Arrays, Codes, Tokenizer, Vectors, check_enough, steps
from training.tokenizers.kmeans import kmeans, nearest
from training.tokenizers.standard import Standard


@dataclass(frozen=True)
class OPQ(Tokenizer):
    """A rotation [D * s, d] and codebooks [D, V, s] of the parts; s = d // D dimensions each."""

    kind: ClassVar[str] = "opq"

    standard: Standard
    rotation: Vectors  # rows are orthonormal; where D does not divide d, the directions of least variance are dropped
    codebooks: Vectors

    @classmethod
    def fit(
        cls,
        vectors: Vectors,
        *,
        levels: int,
        codebook_size: int,
        restarts: int = 5,
        iterations: int = 50,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Self:
        """Fit a rotation and `levels` codebooks of `codebook_size` centroids to vectors [N, d].

        Raises:
            TrainingError: fewer vectors than centroids, or fewer dimensions than levels.
        """
        check_enough(vectors, codebook_size)
        if vectors.shape[1] < levels:
            raise TrainingError(
                f"opq gives each of {levels} levels a part of the embedding, which needs as many dimensions, got "
                f"{vectors.shape[1]}. Choose another tokenizer."
            )
        standard = Standard.fit(vectors)
        inputs = standard.apply(vectors)
        rotation = _rotation(inputs, levels, codebook_size)
        parts = _parts(inputs, rotation, levels)
        codebooks = [
            kmeans(parts[level], codebook_size, restarts=restarts, iterations=iterations, seed=seed + level)
            for level in steps(levels, "parts of OPQ", progress)
        ]
        return cls(standard, rotation, np.stack(codebooks))

    @property
    def levels(self) -> int:  # noqa: D102
        return len(self.codebooks)

    @property
    def codebook_size(self) -> int:  # noqa: D102
        return int(self.codebooks.shape[1])

    def encode(self, vectors: Vectors) -> Codes:
        """For each part the nearest centroid."""
        parts = _parts(self.standard.apply(vectors), self.rotation, self.levels)
        return np.stack([nearest(part, book) for part, book in zip(parts, self.codebooks, strict=True)], axis=1)

    def decode(self, codes: Codes) -> Vectors:
        """The codes' centroids side by side, rotated back."""
        parts = [book[column] for book, column in zip(self.codebooks, codes.T, strict=True)]
        return self.standard.invert(np.concatenate(parts, axis=1) @ self.rotation)

    def arrays(self) -> Arrays:  # noqa: D102
        return {"rotation": self.rotation, "codebooks": self.codebooks, **self.standard.arrays()}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Self:  # noqa: D102
        return cls(Standard.of_arrays(arrays), arrays["rotation"], arrays["codebooks"])


def _rotation(inputs: Vectors, levels: int, codebook_size: int) -> Vectors:
    """Faiss's rotation [levels * s, d]; it thinks in whole bits, our codebooks need not."""
    dimensions = inputs.shape[1]
    kept = dimensions // levels * levels
    quantizer = faiss.ProductQuantizer(kept, levels, max(1, int(math.log2(codebook_size))))
    quantizer.cp.min_points_per_centroid = 1
    transform = faiss.OPQMatrix(dimensions, levels, kept)
    transform.pq = quantizer
    transform.train(np.ascontiguousarray(inputs))
    return faiss.vector_to_array(transform.A).reshape(kept, dimensions).astype(np.float32)


def _parts(inputs: Vectors, rotation: Vectors, levels: int) -> list[Vectors]:
    """The rotated vectors in `levels` parts, each [N, s]."""
    return [np.ascontiguousarray(part) for part in np.split(inputs @ rotation.T, levels, axis=1)]
