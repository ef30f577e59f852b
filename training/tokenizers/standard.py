"""The scale in which vectors are quantized: the mean is 0, and the root mean square of their norms is a given number.

All dimensions are divided by the same number: distances, and so the reconstruction error, keep their meaning, and
dimensions that hold next to nothing are not blown up.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from training.tokenizers.interface import Arrays, Vectors


@dataclass(frozen=True)
class Standard:
    """x -> (x - mean) / scale, and back."""

    mean: Vectors  # [d]
    scale: float

    @classmethod
    def fit(cls, vectors: Vectors, norm: float = 1.0) -> Self:
        """The scale in which `vectors` [N, d] have norm `norm` (root mean square)."""
        mean = vectors.mean(0)
        return cls(mean, float(np.sqrt(np.square(vectors - mean).sum(1).mean())) / norm or 1.0)

    def apply(self, vectors: Vectors) -> Vectors:
        """Vectors [N, d] in this scale."""
        return (vectors - self.mean) / self.scale

    def invert(self, vectors: Vectors) -> Vectors:
        """Vectors [N, d] of this scale in the original one."""
        return vectors * self.scale + self.mean

    def arrays(self) -> Arrays:
        """What a file holds of it."""
        return {"mean": self.mean, "scale": np.array(self.scale, dtype=np.float64)}

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> Self:
        """The same scale again."""
        return cls(arrays["mean"], float(arrays["scale"]))
