"""Resident memory of the graphs over many batches of changing size and length: it must level off.

    python -m benchmarks.memory --bundle bundles/demo

As many threads as cores ask every graph of a bundle, as the service does. Prints a table and, as the last line, one
JSON document.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.reporting import emit
from models.bundle import Bundle
from models.graphs import Graphs
from service.settings import cores

PARTS = 10


def resident_mb() -> float:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def requests(graphs: Graphs, count: int, batch: int) -> Iterator[tuple[str, list[list[int]]]]:
    """Graphs in turn, and batches of up to `batch` histories of up to the longest that it reads."""
    random, names = np.random.default_rng(0), list(graphs.entries)
    for number in range(count):
        name = names[number % len(names)]
        lengths = random.integers(1, graphs.entries[name].max_history + 1, random.integers(1, batch + 1))
        yield name, [random.integers(1, graphs.bundle.catalogue.size + 1, length).tolist() for length in lengths]


def ask(graphs: Graphs, name: str, histories: list[list[int]]) -> None:
    """Run one batch."""
    if name == "sasrec":
        graphs.rank(histories)
    else:
        graphs.generate(name, histories)


def measure(bundle: Path, count: int, batch: int, console: Console) -> dict[str, Any]:
    """Megabytes before the first batch and after each tenth of them."""
    graphs = Graphs(Bundle.open(bundle))
    todo = list(requests(graphs, count, batch))
    resident = [resident_mb()]
    with ThreadPoolExecutor(cores()) as threads:
        for part in track(np.array_split(np.arange(count), PARTS), "asking", console=console):
            list(threads.map(lambda number: ask(graphs, *todo[number]), part))
            resident.append(resident_mb())
    return {
        "machine": machine(),
        "bundle": graphs.bundle.identity,
        "batches": count,
        "largest_batch": batch,
        "threads": cores(),
        "resident_mb": [round(value, 1) for value in resident],
        "growth_over_the_second_half_mb": round(resident[-1] - resident[PARTS // 2], 1),
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Watch the memory that graphs take.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--largest", type=int, default=8, help="histories in a batch, at most")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    results = measure(arguments.bundle, arguments.batches, arguments.largest, console)
    table = Table("after", *(f"{results['batches'] * part // PARTS}" for part in range(PARTS + 1)))
    table.add_row("MB", *(f"{value:.0f}" for value in results["resident_mb"]))
    console.print(table)
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
