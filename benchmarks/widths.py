"""What narrow levels cost and save: overlap with the full beam, and time, of TIGER of a bundle.

    python -m benchmarks.widths --bundle bundles/demo

Beams by level: what the levels before the last keep. The full beam and the narrow ones take turns on one history at a
time, on one thread; ratios are of medians. Prints a table and, as the last line, one JSON document.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.agreement import Trained, agreement
from benchmarks.machine import machine
from benchmarks.reporting import emit
from models.networks.fused import FusedTigerBeam


def shapes(width: int, levels: int) -> list[tuple[int, ...]]:
    """What is tried, widest first: narrow at the end, narrower towards the end, narrow throughout."""
    before, third, half = levels - 1, max(1, width // 3), max(1, width // 2)
    return [
        (width,) * before,
        (*(width,) * (before - 1), third),
        (width, *(half,) * (before - 2), third),
        (half,) * before,
        (third,) * before,
    ]


def measure(bundle: Path, users: int, console: Console) -> dict[str, Any]:
    """All shapes."""
    times: dict[tuple[int, ...], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        trained = Trained(bundle, users, Path(folder))
        tiger, width = trained.networks.tiger, trained.width
        runs = {
            widths: trained.open(FusedTigerBeam(tiger, width, widths=widths).eval())
            for widths in track(shapes(width, tiger.config.levels), "exporting", console=console)
        }
        answers = {widths: trained.answers(run, 32) for widths, run in runs.items()}
        for user in track(range(users), "timing", console=console):
            for widths, run in runs.items():
                started = time.perf_counter()
                run(slice(user, user + 1))
                times.setdefault(widths, []).append(time.perf_counter() - started)
    medians = {widths: statistics.median(seconds) for widths, seconds in times.items()}
    full = next(iter(medians))
    return {
        "machine": machine(),
        "bundle": trained.bundle.identity,
        "width": width,
        "cases": [
            {
                "widths": list(widths),
                "median_ms": round(median * 1e3, 3),
                "times_faster": round(medians[full] / median, 2),
                "items": round(float((answers[widths].items > 0).sum(1).mean()), 1),
                **agreement(answers[widths], answers[full]),
            }
            for widths, median in medians.items()
        ],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Try narrow levels of the beam search.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    results = measure(arguments.bundle, arguments.users, console)
    columns = ("widths", "ms", "times faster", "items found", "overlap at 10")
    table = Table(*columns)
    for case in results["cases"]:
        cells = (case["widths"], case["median_ms"], case["times_faster"], case["items"], case["overlap_at_10"])
        table.add_row(*map(str, cells))
    console.print(table)
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
