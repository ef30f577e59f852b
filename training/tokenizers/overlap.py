"""Do items with equal first codes have similar titles? Measured as the Jaccard overlap of the titles' words."""

import re
from collections.abc import Sequence

import numpy as np

from training.tokenizers.collisions import groups
from training.tokenizers.interface import Codes

PAIRS = 20_000  # drawn for each mean


def title_overlap(titles: Sequence[str], prefixes: Codes, seed: int = 0) -> float | None:
    """Mean overlap of the titles of two items with equal prefixes [N, any]; None where no two items share one.

    The first item is drawn among those that share their prefix, the second among the others of its group. Without
    columns all items share the prefix, so that the pairs are random ones.
    """
    random = np.random.default_rng(seed)
    order = np.concatenate(list(groups(prefixes)))
    sizes = np.array([len(rows) for rows in groups(prefixes)])
    start, size = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    shared = np.flatnonzero(size > 1)  # places in `order`
    if not len(shared):
        return None
    first = random.choice(shared, PAIRS)
    step = random.integers(1, size[first])
    second = start[first] + (first - start[first] + step) % size[first]
    words = [frozenset(re.findall(r"\w+", title.lower())) for title in titles]
    return float(np.mean([_jaccard(words[a], words[b]) for a, b in zip(order[first], order[second], strict=True)]))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared words / all words; two empty titles have nothing in common."""
    return len(one & other) / max(1, len(one | other))
