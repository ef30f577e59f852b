"""How good semantic ids are: collisions, use of the codes, and what they lose of the embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.tokenizers.interface import Codes, Tokenizer, Vectors


@dataclass(frozen=True)
class LevelReport:
    """How one codebook is used: distinct codes / V, and the entropy of the codes in bits."""

    level: int
    utilization: float
    entropy_bits: float


@dataclass(frozen=True)
class TokenizerReport:
    """Quality of the codes that a tokenizer gives, before collisions are resolved."""

    items: int
    unique: int
    collision_rate: float  # share of items that share all codes with another item
    largest_group: int
    reconstruction_error: float  # squared error of the decoded vectors / squared distance from the mean vector
    levels: Sequence[LevelReport]


def report(tokenizer: Tokenizer, codes: Codes, vectors: Vectors) -> TokenizerReport:
    """Collisions over all levels, and utilization and entropy of each, for codes [N, D] of vectors [N, d]."""
    _, group_sizes = np.unique(codes, axis=0, return_counts=True)
    return TokenizerReport(
        items=len(codes),
        unique=len(group_sizes),
        collision_rate=float(group_sizes[group_sizes > 1].sum() / len(codes)),
        largest_group=int(group_sizes.max()),
        reconstruction_error=reconstruction_error(tokenizer, codes, vectors),
        levels=[report_level(codes, level, tokenizer.codebook_size) for level in range(1, codes.shape[1] + 1)],
    )


def report_level(codes: Codes, level: int, codebook_size: int) -> LevelReport:
    """How the codes [N, D] of one level, counted from 1, are used."""
    counts = np.bincount(codes[:, level - 1])
    share = counts[counts > 0] / len(codes)
    return LevelReport(level, len(share) / codebook_size, float(-(share * np.log2(share)).sum()))


def reconstruction_error(tokenizer: Tokenizer, codes: Codes, vectors: Vectors) -> float:
    """The share of the variance of vectors [N, d] that codes [N, D] leave unexplained."""
    lost = np.square(vectors - tokenizer.decode(codes), dtype=np.float64).sum()
    variance = np.square(vectors - vectors.mean(0), dtype=np.float64).sum()
    return float(lost / (variance or 1.0))  # equal vectors have none, and lose nothing
