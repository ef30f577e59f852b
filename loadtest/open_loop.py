"""Constant arrival rates, rising to saturation and beyond, for the teacher's ensemble and the distilled one.

    python -m loadtest.open_loop --json loadtest/results/open_loop.json

Starts a service of `--bundle`, unless `--url` names one that serves it. A request is sent when it is due, whether
or not earlier ones were answered, and its latency counts from when it was due: a service that falls behind cannot slow
its visitors down, and so cannot hide the queue. Saturation is the rate of a closed loop with IN_FLIGHT requests; the
offered rates are FRACTIONS of it. Client and service share the machine's cores. Prints a table and, as the last line,
one JSON document; with `--json`, draws p50 and p99 against the offered rate beside it.
"""

import argparse
import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.reporting import emit, percentiles
from loadtest.client import Ask, Pool, closed_loop
from loadtest.target import messages, running, walks

VARIANTS = {"ensemble_tiger": "teacher", "ensemble_sid_mlp": "distilled"}
FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
HEALTHY = 0.7  # of saturation: where a service should run
IN_FLIGHT = 32


async def open_loop(ask: Ask, rate: float, seconds: float) -> dict[str, float]:
    """Send requests at `rate` a second for `seconds`; milliseconds from when each was due to its answer."""
    latencies: list[float] = []

    async def send(number: int, due: float) -> None:
        if await ask(number):
            latencies.append(time.perf_counter() - due)

    begin, tasks = time.perf_counter(), []
    for number in range(max(1, round(rate * seconds))):
        due = begin + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(send(number, due)))
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - begin
    counts = {"offered": rate, "answered": len(latencies) / elapsed, "failed": len(tasks) - len(latencies)}
    return counts | percentiles(latencies)


async def sweep(url: str, requests: list[bytes], seconds: float, progress: Progress, name: str) -> dict[str, Any]:
    """Saturation, and what happens at each fraction of it."""
    pool = Pool(url)

    async def ask(number: int) -> bool:
        return await pool.succeeds(requests[number % len(requests)])

    task = progress.add_task(name, total=len(FRACTIONS) + 2)
    await closed_loop(ask, IN_FLIGHT, seconds / 2)  # caches fill
    progress.advance(task)
    _, saturation = await closed_loop(ask, IN_FLIGHT, seconds)
    progress.advance(task)
    rates = []
    for fraction in FRACTIONS:
        rates.append({"load": fraction} | await open_loop(ask, fraction * saturation, seconds))
        progress.advance(task)
    pool.close()
    healthy = next(found for found in rates if found["load"] == HEALTHY)
    spread = healthy["p99_ms"] / healthy["p50_ms"] if "p99_ms" in healthy else None
    return {"saturation": saturation, "p99_over_p50_at_70_percent": spread, "rates": rates}


def plot(results: dict[str, Any], path: Path) -> None:
    """Draw p50 and p99 of both variants against the offered rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for colour, (variant, role) in zip(("tab:blue", "tab:orange"), VARIANTS.items(), strict=True):
        rates = [found for found in results["variants"][variant]["rates"] if "p50_ms" in found]
        for percentile, style in (("p50_ms", "-"), ("p99_ms", "--")):
            values = [found[percentile] for found in rates]
            label = f"{role} ({variant}), {percentile[:3]}"
            axes.plot([found["offered"] for found in rates], values, style, color=colour, marker="o", label=label)
    axes.set(xlabel="offered requests a second", ylabel="ms from when a request was due", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def measure(url: str, bundle: Path, seconds: float, console: Console) -> dict[str, Any]:
    """Sweep both variants, one after the other."""
    histories = walks(bundle, 2000)
    with Progress(console=console) as progress:
        variants = {
            variant: asyncio.run(sweep(url, messages(histories, variant), seconds, progress, variant))
            for variant in VARIANTS
        }
    return {"machine": machine(), "bundle": bundle.name, "seconds": seconds, "variants": variants}


def main() -> None:
    """Parse the command line, measure, print, draw."""
    parser = argparse.ArgumentParser(description="Load a service at constant rates.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--url", help="a service of that bundle that runs already")
    parser.add_argument("--seconds", type=float, default=20.0, help="time at each rate")
    parser.add_argument("--json", type=Path, help="write the result here, and the plot beside it")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    with contextlib.nullcontext(arguments.url) if arguments.url else running(arguments.bundle) as url:
        results = measure(url, arguments.bundle, arguments.seconds, console)
    table = Table("variant", "load", "offered/s", "answered/s", "failed", "p50, ms", "p99, ms")
    for variant, found in results["variants"].items():
        for rate in found["rates"]:
            columns = ("load", "offered", "answered", "failed", "p50_ms", "p99_ms")
            table.add_row(variant, *(f"{rate.get(column, float('nan')):.4g}" for column in columns))
    console.print(table)
    emit(results, arguments.json)
    if arguments.json:
        plot(results, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
