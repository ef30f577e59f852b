"""Synthetic catalogues of semantic ids with the fan-out of a real one."""

import math

import numpy as np
from numpy.typing import NDArray

CODES = 256  # a level

# Nodes a level of Beauty's 12,101 items under RQ-VAE codes: 28.8, 1.55 and 1.06 children a node after the first level.
NODES = (256, 7_373, 11_412, 12_101)


def beauty_like(items: int = NODES[-1], seed: int = 0) -> NDArray[np.int64]:
    """Codes [items + 1, 4] of so many items, row 0 padding."""
    random = np.random.default_rng(seed)
    prefixes = np.zeros((1, 0), dtype=np.uint8)
    for count in level_sizes(items):
        prefixes = _extend(prefixes, count, random)
    codes = np.zeros((items + 1, len(NODES)), dtype=np.int64)
    codes[1:] = random.permutation(prefixes)
    return codes


def level_sizes(items: int) -> tuple[int, ...]:
    """Nodes a level of a catalogue of so many items, as if Beauty's codes were drawn that often.

    n draws from s equally frequent prefixes find s (1 - exp(-n / s)) of them. Codes are not equally frequent: at each
    level Beauty has as many nodes as a share of its items would find, and other sizes are given the same share.
    """
    sizes = []
    for level, known in enumerate(NODES[:-1], start=1):
        prefixes = CODES**level
        drawn = -prefixes * math.log1p(-min(known / prefixes, 1 - 1e-9)) * items / NODES[-1]
        sizes.append(min(items, round(-prefixes * math.expm1(-drawn / prefixes))))
    return (*sizes, items)


def _extend(prefixes: NDArray[np.uint8], count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """`count` distinct prefixes one code longer, at least one below every given one."""
    first = random.integers(0, CODES, len(prefixes))
    # The others are drawn from what is free: CODES - 1 codes below each prefix.
    free = random.choice(len(prefixes) * (CODES - 1), count - len(prefixes), replace=False, shuffle=False)
    parents = np.concatenate([np.arange(len(prefixes)), free // (CODES - 1)])
    codes = np.concatenate([first, (first[free // (CODES - 1)] + 1 + free % (CODES - 1)) % CODES])
    return np.concatenate([prefixes[parents], codes[:, np.newaxis].astype(np.uint8)], axis=1)
