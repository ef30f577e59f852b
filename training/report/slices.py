"""NDCG@10 on parts of the instances, the one measurement that most tables of the report are made of."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from models.categories import GROUPS, Categories
from models.paths import TYPES
from models.transitions import HOPS
from training.metrics import Estimate, bootstrap

Parts = Mapping[str, NDArray[np.bool_]]
"""Masks [n] over the instances by name; they may overlap."""
Values = Mapping[str, NDArray[np.float64]]
"""NDCG@10 [n] of every instance by model or ensemble."""


class Slice(BaseModel):
    """A part of the instances: how many, their share of all, and the mean NDCG@10 of each model on them."""

    n: int
    share: float
    ndcg_at_10: Mapping[str, Estimate]  # empty where n is 0


def slices(parts: Parts, values: Values) -> dict[str, Slice]:
    """Measure every model of `values` on every one of `parts`."""
    return {
        name: Slice(
            n=int(part.sum()),
            share=float(part.mean()),
            ndcg_at_10={model: bootstrap(found[part]) for model, found in values.items()} if part.any() else {},
        )
        for name, part in parts.items()
    }


def by_category(categories: Categories) -> dict[str, NDArray[np.bool_]]:
    """The three groups, and each type by its smallest hop (`symmetry_1`)."""
    group = categories.group()
    # Substitutability at hop 1 is memorization.
    hops = {name: range(2 if name == "substitutability" else 1, HOPS + 1) for name in TYPES}
    return {name: group == name for name in GROUPS} | {
        f"{name}_{hop}": categories.hops[..., TYPES.index(name)] == hop for name in TYPES for hop in hops[name]
    }
