"""Invented item embeddings."""

import numpy as np

ITEMS, DIMENSIONS, SIZE = 300, 10, 8


def embeddings(seed: int = 0) -> np.ndarray:
    """Vectors around a dozen centres, far from the origin, so that centring matters."""
    random = np.random.default_rng(seed)
    centres = 3 * random.standard_normal((12, DIMENSIONS))
    noise = random.standard_normal((ITEMS, DIMENSIONS))
    return (5 + centres[random.integers(12, size=ITEMS)] + noise).astype(np.float32)
