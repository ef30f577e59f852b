"""The service over HTTP against the bare engine: latency and throughput by variant and concurrency, in one run.

    python -m benchmarks.service --json benchmarks/results/service.json

The engine runs here: the same graphs behind the same batchers and as many worker threads, for the same histories, with
neither HTTP nor Redis, fusion, or explanations. The service is `tandem serve` in a process of its own, driven from this
one over keep-alive connections; so client and server share the cores, and the server's share is smaller than the
engine's. Engine and service take turns. Histories are random walks over the transition index. Prints a table and, as
the last line, one JSON document.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.reporting import emit, percentiles
from loadtest.client import Ask, Pool, closed_loop
from loadtest.target import messages, running, walks
from models.bundle import newest_version
from service.cli import SWITCH_INTERVAL_S
from service.engine import Engine, Lanes, Query
from service.metrics import Metrics
from service.settings import Settings
from service.variants import VARIANTS, Variant, VariantName

CONCURRENCY = (1, 4, 16, 64)


class Bare:
    """The graphs of a bundle, asked without a service around them."""

    def __init__(self, bundle: Path, histories: Sequence[Sequence[str]]) -> None:
        settings = Settings(bundle=bundle)
        self._engine = Engine.load(newest_version(bundle), settings)
        self._lanes = Lanes(self._engine, settings, Metrics())
        catalogue, everything = self._engine.bundle.catalogue, self._engine.filters.get(None)
        indexes = [[catalogue.index_of(item_id) or 0 for item_id in history] for history in histories]
        self._queries = [Query(history, everything.without(history)) for history in indexes]

    @property
    def variants(self) -> list[VariantName]:
        """The variants that the bundle can serve."""
        return [name for name in VARIANTS if name in self._engine.variants]

    def ask(self, name: VariantName) -> Ask:
        """Runs the graphs of a variant side by side."""
        variant: Variant = self._engine.variants[name]
        lanes = [self._lanes.rank if graph == "sasrec" else self._lanes.generate[graph] for graph in variant.graphs]

        async def ask(number: int) -> bool:
            query = self._queries[number % len(self._queries)]
            await asyncio.gather(*(lane.submit(query, time.monotonic() + 60) for lane in lanes))
            return True

        return ask

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()


async def compare(
    bare: Bare, url: str, name: VariantName, requests: Sequence[bytes], concurrency: int, seconds: float
) -> dict[str, Any]:
    """One variant at one concurrency, both ways in turns; milliseconds and requests a second."""
    pool = Pool(url)

    async def over_http(number: int) -> bool:
        return await pool.succeeds(requests[number % len(requests)])

    found: dict[str, tuple[list[float], list[float]]] = {"engine": ([], []), "service": ([], [])}
    for _ in range(2):
        for side, ask in (("engine", bare.ask(name)), ("service", over_http)):
            await closed_loop(ask, concurrency, seconds / 8)  # caches fill, connections open
            latencies, rate = await closed_loop(ask, concurrency, seconds / 2)
            found[side][0].extend(latencies)
            found[side][1].append(rate)
    pool.close()
    case: dict[str, Any] = {
        side: {**percentiles(latencies), "per_second": sum(rates) / len(rates)}
        for side, (latencies, rates) in found.items()
    }
    engine, service = case["engine"], case["service"]
    return {
        "variant": name,
        "concurrency": concurrency,
        **case,
        "added_p50_ms": service["p50_ms"] - engine["p50_ms"],
        "share_of_throughput": service["per_second"] / engine["per_second"],
    }


def distilled_over_teacher(cases: Sequence[dict[str, Any]]) -> dict[int, float]:
    """By concurrency: how many requests the distilled ensemble answers while the teacher's answers one."""
    rates = {(case["variant"], case["concurrency"]): case["service"]["per_second"] for case in cases}
    return {
        concurrency: rate / rates["ensemble_tiger", concurrency]
        for (variant, concurrency), rate in rates.items()
        if variant == "ensemble_sid_mlp" and ("ensemble_tiger", concurrency) in rates
    }


def measure(bundle: Path, concurrencies: Sequence[int], seconds: float, console: Console) -> dict[str, Any]:
    """All variants at all concurrencies, `seconds` each way."""
    histories = walks(bundle, 2000)
    bare, cases = Bare(bundle, histories), []
    with running(bundle) as url, Progress(console=console) as progress:
        task = progress.add_task("measuring", total=len(bare.variants) * len(concurrencies))
        for name in bare.variants:
            requests = messages(histories, name)
            for concurrency in concurrencies:
                cases.append(asyncio.run(compare(bare, url, name, requests, concurrency, seconds)))
                progress.advance(task)
    bare.close()
    return {
        "machine": machine(),
        "bundle": bundle.name,
        "seconds": seconds,
        "distilled_over_teacher": distilled_over_teacher(cases),
        "cases": cases,
    }


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time the service against the bare engine.")
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"))
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each way of each case")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the service does
    results = measure(arguments.bundle, CONCURRENCY, arguments.seconds, console)
    columns = ("engine p50 / p99, ms", "service p50 / p99, ms", "engine/s", "service/s", "added, ms")
    table = Table("variant", "in flight", *columns)
    for case in results["cases"]:
        engine, service = case["engine"], case["service"]
        table.add_row(
            case["variant"],
            str(case["concurrency"]),
            *(f"{side['p50_ms']:.2f} / {side['p99_ms']:.2f}" for side in (engine, service)),
            *(f"{side['per_second']:.0f}" for side in (engine, service)),
            f"{case['added_p50_ms']:.2f}",
        )
    console.print(table)
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
