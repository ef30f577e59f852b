"""The semantic-id tokenizer: residual k-means over item embeddings plus one digit that separates collisions.

Each level clusters what the levels before it left over (residual quantization, TIGER section 3.1; k-means codebooks
as in MemGen section 4). Several restarts a level matter more than the library: a bad initialisation is what makes
semantic ids collide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ResidualKMeans:
    """Codebooks [levels, V, d], fitted on standardised vectors."""

    codebooks: Vectors
    mean: Vectors
    scale: float

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
    ) -> "ResidualKMeans":
        """Fit `levels` codebooks of `codebook_size` centroids to vectors [N, d].

        Raises:
            TrainingError: fewer vectors than centroids.
        """
        if len(vectors) < codebook_size:
            raise TrainingError(
                f"a codebook of {codebook_size} needs at least as many items, got {len(vectors)}. "
                "Choose a smaller preset."
            )
        mean = vectors.mean(0)
        scale = float(np.sqrt(np.square(vectors - mean).sum(1).mean())) or 1.0
        residual = (vectors - mean) / scale
        codebooks = []
        for level in range(levels):
            kmeans = faiss.Kmeans(
                residual.shape[1],
                codebook_size,
                niter=iterations,
                nredo=restarts,
                seed=seed + level,
                min_points_per_centroid=1,
                max_points_per_centroid=len(residual),
            )
            kmeans.train(np.ascontiguousarray(residual))
            codebooks.append(np.array(kmeans.centroids, dtype=np.float32))
            residual = residual - codebooks[-1][_nearest(residual, codebooks[-1])]
        return cls(np.stack(codebooks), mean, scale)

    def encode(self, vectors: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        """Codes [N, levels] of vectors [N, d], and what they leave unexplained [N, d] (standardised units)."""
        residual = (vectors - self.mean) / self.scale
        codes = []
        for codebook in self.codebooks:
            codes.append(_nearest(residual, codebook))
            residual = residual - codebook[codes[-1]]
        return np.stack(codes, axis=1), residual

    def save(self, path: Path) -> None:
        """Write the tokenizer as an .npz of plain arrays."""
        np.savez(path, codebooks=self.codebooks, mean=self.mean, scale=np.float64(self.scale))

    @classmethod
    def load(cls, path: Path) -> "ResidualKMeans":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["codebooks"], arrays["mean"], float(arrays["scale"]))


def _nearest(vectors: Vectors, codebook: Vectors) -> NDArray[np.int64]:
    index = faiss.IndexFlatL2(codebook.shape[1])
    index.add(codebook)
    return np.asarray(index.search(np.ascontiguousarray(vectors), 1)[1][:, 0], dtype=np.int64)


def add_collision_digit(codes: NDArray[np.int64], codebook_size: int) -> NDArray[np.int64]:
    """Append the running number of an item inside its collision group, so that every row [D] is unique.

    Raises:
        TrainingError: a group holds more items than a digit can tell apart.
    """
    _, group = np.unique(codes, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) > 0])
    sizes = np.diff(np.r_[starts, len(group)])
    if sizes.max() > codebook_size:
        raise TrainingError(
            f"at most {codebook_size} items may share a code prefix, got {sizes.max()}: the item texts are too alike. "
            "Give richer item text, or choose a preset with larger codebooks."
        )
    digit = np.empty(len(codes), dtype=np.int64)
    digit[order] = np.arange(len(group)) - np.repeat(starts, sizes)
    return np.concatenate([codes, digit[:, None]], axis=1)


@dataclass(frozen=True)
class LevelReport:
    """How one codebook is used: distinct codes / V, and the entropy of the codes in bits."""

    level: int
    utilization: float
    entropy_bits: float


@dataclass(frozen=True)
class TokenizerReport:
    """Quality of the semantic ids before the collision digit is added."""

    items: int
    unique: int
    collision_rate: float  # share of items that share all codes with another item
    largest_group: int
    reconstruction_error: float  # mean squared residual / mean squared norm
    levels: Sequence[LevelReport]


def report(codes: NDArray[np.int64], residual: Vectors, codebook_size: int) -> TokenizerReport:
    """Collisions over all levels, and utilization and entropy of each level, for codes [N, levels]."""
    _, group_sizes = np.unique(codes, axis=0, return_counts=True)
    levels = []
    for level, column in enumerate(codes.T, start=1):
        counts = np.bincount(column, minlength=codebook_size)
        share = counts[counts > 0] / len(column)
        levels.append(LevelReport(level, len(share) / codebook_size, float(-(share * np.log2(share)).sum())))
    return TokenizerReport(
        items=len(codes),
        unique=len(group_sizes),
        collision_rate=float(group_sizes[group_sizes > 1].sum() / len(codes)),
        largest_group=int(group_sizes.max()),
        reconstruction_error=float((residual**2).sum(1).mean()),
        levels=levels,
    )
