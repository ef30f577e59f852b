"""Whether an indicator tells memorization from the rest: figure 8 of arXiv 2603.19809.

Instances are ranked by the indicator and cut into quantiles of equal size. A useful one gathers memorization instances
at the top, where SASRec should overtake the generative model.
"""

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.indicators import transition_mass
from training.data.dataset import Instances
from training.evaluate import methods
from training.fusion import contexts, successors
from training.lists import Lists
from training.report.slices import Slice, Values, slices

QUANTILES = 5


class Quantile(Slice):
    """The instances between two values of an indicator."""

    low: float
    high: float
    memorization: float  # share of memorization instances


def indicator_values(bundle: Bundle, lists: Lists, instances: Instances) -> dict[str, NDArray[np.float64]]:
    """Values [n] of every indicator that the bundle can compute; a learned one for each generative model."""
    values = {
        "msp": lists.ranked.msp.astype(np.float64),
        "transition": transition_mass(lists.ranked, successors(bundle, instances)),
    }
    for name, fusion in bundle.fusions.items():
        if "learned" in methods(bundle, name):
            verdict = fusion.using("learned")(lists.ranked, lists.generated[name], contexts(bundle, instances))
            values[f"learned_{name}"] = verdict.value
    return values


def quantiles(indicator: NDArray[np.float64], memorization: NDArray[np.bool_], values: Values) -> list[Quantile]:
    """Measure `values` in each quantile of `indicator` [n], lowest first; equal values keep the instances' order."""
    order = np.array_split(np.argsort(indicator, kind="stable"), QUANTILES)
    parts = {str(number): np.isin(np.arange(len(indicator)), rows) for number, rows in enumerate(order)}
    return [
        Quantile(
            **dict(found),
            low=float(indicator[rows].min()),
            high=float(indicator[rows].max()),
            memorization=float(memorization[rows].mean()),
        )
        for found, rows in zip(slices(parts, values).values(), order, strict=True)
    ]
