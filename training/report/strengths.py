"""Where a generative model beats SASRec among memorized items: the map of figure 6 of arXiv 2603.19809.

phi is the strength of the item transition from the last history item to the target, psi that of the transition between
their prefixes. Only memorization instances are on the map, as in the paper's code: elsewhere phi is 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from models.prefixes import PrefixTransitions
from training.data.dataset import Instances
from training.metrics import Estimate, bootstrap

Floats = NDArray[np.float64]

PSI_LENGTH = 2  # codes of the prefix behind psi, as in the paper
BINS = 4


class Strengths(BaseModel):
    """Generative NDCG@10 less SASRec's by quantile of phi (rows) and of psi (columns), both rising."""

    phi_edges: Sequence[float]  # [rows + 1]
    psi_edges: Sequence[float]  # [columns + 1]
    n: Sequence[Sequence[int]]  # [rows, columns]
    difference: Sequence[Sequence[Estimate | None]]  # [rows, columns], None where n is 0


def transition_strength(prefixes: PrefixTransitions, instances: Instances) -> Floats:
    """Strength [n] of the transition from the last history item of each instance to its target."""
    last = np.array([history[-1] for history in instances.histories], dtype=np.int64)
    return prefixes.strength(last, instances.targets)


def strength_map(phi: Floats, psi: Floats, difference: Floats) -> Strengths:
    """Mean `difference` [m] by quantiles of `phi` [m] and `psi` [m]; equal edges merge, so they may be fewer."""
    phi_edges, row = _quantiles(phi)
    psi_edges, column = _quantiles(psi)
    cells = [
        [difference[(row == i) & (column == j)] for j in range(len(psi_edges) - 1)] for i in range(len(phi_edges) - 1)
    ]
    return Strengths(
        phi_edges=phi_edges.tolist(),
        psi_edges=psi_edges.tolist(),
        n=[[len(cell) for cell in cells_of_row] for cells_of_row in cells],
        difference=[[bootstrap(cell) if len(cell) else None for cell in cells_of_row] for cells_of_row in cells],
    )


def _quantiles(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Edges of at most BINS quantiles, and the bin of each value; a bin holds its upper edge."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1))) if values.size else np.zeros(1)
    return edges, np.searchsorted(edges[1:-1], values, side="left")
