"""Explaining the items of an answer: milliseconds a request, from item indexes to what goes over the wire.

    python -m benchmarks.explain --json benchmarks/results/explain.json

The rows of all items are decoded and in the process, as in a cache that is warm. Histories are random walks over the
transition index of a bundle; an item to explain ends a walk of one to four steps, forward or backward, from one of the
last four items, so that every category occurs. Each stage includes the ones above it. Prints a table and, as the last
line, one JSON document.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.reporting import emit, percentiles
from loadtest.walks import Request, Walker
from models.bundle import ITEMS, TRANSITIONS, newest_version
from models.catalogue import Catalogue
from models.categories import categorize
from models.context import Context
from models.explanations import explain
from models.transitions import DIRECTIONS, HOPS, Rows, RowTable, TransitionIndex, decode_row, encode_row
from service.answers import explained


class Stand:
    """A warm cache of one bundle's rows, and the stages to time."""

    def __init__(self, index: TransitionIndex, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        forward, backward = (
            [decode_row(encode_row(index.row(direction, item))) for item in range(index.num_items + 1)]
            for direction in DIRECTIONS
        )
        self._cache = dict(enumerate(map(Rows, forward, backward)))
        self.stages: dict[str, Callable[[Request], Any]] = {
            "categories": self.categorize,
            "explanations": self.explain,
            "item ids and sentences": self.answer,
        }

    def categorize(self, request: Request) -> Any:
        """The categories alone."""
        return categorize(self._rows(request), [request.history], np.array([request.items]))

    def explain(self, request: Request) -> Any:
        """With the evidence behind each."""
        rows = self._rows(request)
        return explain(Context.of(request.history, rows), rows, np.array(request.items))

    def answer(self, request: Request) -> Any:
        """As the service answers."""
        found, explanations = self.explain(request)
        wire = [explained(item, why, self._catalogue) for item, why in zip(request.items, explanations, strict=True)]
        return found.labels(), wire

    def _rows(self, request: Request) -> RowTable:
        return RowTable({item: self._cache[item] for item in (*request.history[-HOPS:], *request.items)})


def measure(stand: Stand, requests: list[Request]) -> dict[str, dict[str, float]]:
    """Percentiles in ms by stage. The stages take turns, so that a busy machine hurts them alike."""
    for request in requests:
        stand.answer(request)
    times: dict[str, list[float]] = {name: [] for name in stand.stages}
    for request in requests:
        for name, stage in stand.stages.items():
            started = time.perf_counter()
            stage(request)
            times[name].append(time.perf_counter() - started)
    return {name: percentiles(values) for name, values in times.items()}


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time the explanations of an answer.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--k", type=int, default=10, help="items in an answer")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    directory = newest_version(arguments.bundle)
    index = TransitionIndex.load(directory / TRANSITIONS)
    walker, stand = Walker(index, seed=0), Stand(index, Catalogue.load(directory / ITEMS))
    requests = [walker.request(arguments.k) for _ in range(arguments.requests)]
    found = (why for request in requests for why in stand.explain(request)[1])
    results = {
        "machine": machine(),
        "numpy": np.__version__,
        "bundle": arguments.bundle.name,
        "catalogue": index.num_items,
        "requests": len(requests),
        "k": arguments.k,
        "categories": dict(Counter(why.category if why else "uncategorized" for why in found).most_common()),
        "stages": measure(stand, requests),
    }
    table = Table("stage", "p50, ms", "p99, ms")
    for name, times in results["stages"].items():
        table.add_row(name, *(f"{ms:.3f}" for ms in times.values()))
    Console(stderr=True).print(table)
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
