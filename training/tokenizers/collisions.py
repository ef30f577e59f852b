"""Items that share all their codes, and two ways to tell them apart.

`digit` adds a level: the running number inside the group (TIGER, arXiv 2305.05065, section 3.1). `reassign` keeps the
number of levels: among items that share all codes but the last, the last codes are dealt out anew, each to one item.
LC-Rec does that by Sinkhorn's iteration (arXiv 2311.09049, section 3.1.2); groups are so small that the exact
assignment of least squared error costs nothing.
"""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.errors import TrainingError
from training.tokenizers.interface import Codes, Tokenizer, Vectors
from training.tokenizers.kmeans import squared_distances

Collisions = Literal["digit", "reassign"]
WAYS: tuple[Collisions, ...] = get_args(Collisions)


def unique_codes(
    tokenizer: Tokenizer, vectors: Vectors, codes: Codes, collisions: Collisions, codebook_size: int
) -> Codes:
    """Codes of vectors [N, d] without two equal rows, from encoded ones [N, D]: [N, D + 1] by `digit`, else [N, D].

    `codebook_size` bounds the digit.

    Raises:
        TrainingError: more items share a prefix than there are codes to tell them apart.
    """
    if collisions == "digit":
        return add_collision_digit(codes, codebook_size)
    return reassign(tokenizer, vectors, codes)


def add_collision_digit(codes: Codes, codebook_size: int) -> Codes:
    """Append the running number of an item inside its collision group, so that every row [D] is unique.

    Raises:
        TrainingError: a group holds more items than a digit can tell apart.
    """
    largest, digit = 0, np.empty(len(codes), dtype=np.int64)
    for rows in groups(codes):
        digit[rows] = np.arange(len(rows))
        largest = max(largest, len(rows))
    if largest > codebook_size:
        raise TrainingError(
            f"at most {codebook_size} items may share a code prefix, got {largest}: the item texts are too alike. "
            "Give richer item text, or choose a preset with larger codebooks."
        )
    return np.concatenate([codes, digit[:, None]], axis=1)


def reassign(tokenizer: Tokenizer, vectors: Vectors, codes: Codes) -> Codes:
    """Codes [N, D] with other last codes wherever items share all of them; every row is unique.

    A group of items with one prefix of D - 1 codes gets distinct last codes so that the sum of squared distances
    between vectors [N, d] and what the codes decode to is the least possible.

    Raises:
        TrainingError: more items share such a prefix than a level has codes.
    """
    size, unique = tokenizer.codebook_size, codes.copy()
    for rows in groups(codes[:, :-1]):
        if len(rows) > size:
            raise TrainingError(
                f"at most {size} items may share their first {codes.shape[1] - 1} codes to be told apart by the last, "
                f"got {len(rows)}. Pass --collisions digit, or choose a preset with larger codebooks."
            )
        if len(np.unique(codes[rows, -1])) < len(rows):
            options = np.repeat(codes[rows[:1]], size, axis=0)
            options[:, -1] = np.arange(size)
            costs = squared_distances(vectors[rows], tokenizer.decode(options))
            unique[rows, -1] = linear_sum_assignment(costs)[1]
    return unique


def groups(prefixes: Codes) -> Iterator[NDArray[np.int64]]:
    """The row numbers of each set of equal rows of prefixes [N, any], ascending; no columns are one group."""
    if not prefixes.shape[1]:
        yield np.arange(len(prefixes))
        return
    _, group = np.unique(prefixes, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
