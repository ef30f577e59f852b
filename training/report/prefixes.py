"""Item categories against memorized prefixes: figure 4 and table 3 of arXiv 2603.19809.

The paper's finding: what is generalization item by item is for the most part memorization of a prefix.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from models.categories import Categories
from models.paths import TYPES
from models.token_memorization import TokenMemorization

PrefixTable = Mapping[str, Mapping[str, int]]
"""How many instances, by row (a category) and by codes in the longest memorized prefix, most first."""


def prefixes_by_category(categories: Categories, tokens: TokenMemorization) -> PrefixTable:
    """Count instances [n] by category and longest memorized prefix; a type counts at any hop, so rows overlap."""
    rows = _rows(categories)
    return {
        label: {name: int((row & column).sum()) for name, column in by_prefix(tokens).items()}
        for label, row in rows.items()
    }


def by_prefix(tokens: TokenMemorization) -> dict[str, NDArray[np.bool_]]:
    """Masks [n] of the instances by codes in the longest memorized prefix, from the whole semantic id down to `0`."""
    return {str(length): tokens.length == length for length in range(tokens.support.shape[-1], -1, -1)}


def codes(length: str) -> str:
    """What a column of a `PrefixTable` is called."""
    return {"0": "none", "1": "1 code"}.get(length, f"{length} codes")


def print_prefixes(table: PrefixTable, console: Console) -> None:
    """One line a category: its size, and the share of each length."""
    lengths = list(next(iter(table.values())))
    grid = Table(title="longest memorized prefix of the semantic id")
    grid.add_column("category")
    for column in ("n", *map(codes, lengths)):
        grid.add_column(column, justify="right")
    for label, columns in table.items():
        total = sum(columns.values())
        grid.add_row(label, f"{total:,}", *(f"{count / max(1, total):.2%}" for count in columns.values()))
    console.print(grid)


def _rows(categories: Categories) -> dict[str, NDArray[np.bool_]]:
    group = categories.group()
    return {
        "memorization": group == "memorization",
        **{name: categories.hops[:, column] > 0 for column, name in enumerate(TYPES)},
        "generalization": group == "generalization",
        "uncategorized": group == "uncategorized",
        "all but memorization": group != "memorization",
    }
