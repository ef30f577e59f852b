"""Synthetic catalogues of semantic ids with the fan-out of a real one."""

import numpy as np
from numpy.typing import NDArray

# Nodes a level of Beauty's 12,101 items under RQ-VAE codes: 28.8, 1.55 and 1.06 children a node after the first level.
NODES = (256, 7_373, 11_412, 12_101)


def beauty_like(seed: int = 0) -> NDArray[np.int64]:
    """Codes [12,102, 4] of 12,101 items, row 0 padding; 256 codes a level."""
    random = np.random.default_rng(seed)
    prefixes = random.permutation(NODES[0])[:, None]
    for count in NODES[1:]:
        prefixes = _extend(prefixes, count, random)
    return np.concatenate([np.zeros_like(prefixes[:1]), random.permutation(prefixes)])


def _extend(prefixes: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """`count` distinct prefixes one code longer, at least one below every given one."""
    parents = np.concatenate([np.arange(len(prefixes)), random.integers(0, len(prefixes), count - len(prefixes))])
    children, sizes = [], np.bincount(parents, minlength=len(prefixes))
    for prefix, size in zip(prefixes, sizes, strict=True):
        codes = random.choice(256, size, replace=False)
        children.append(np.concatenate([np.tile(prefix, (size, 1)), codes[:, None]], axis=1))
    return np.concatenate(children)
