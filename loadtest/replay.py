"""Replays real histories against a running service and counts what comes back.

    python -m loadtest.replay --url http://127.0.0.1:8000 --data data/demo --count 200

Test histories of the data set are sent one by one (or `--concurrency` at a time) with a user id each, so that the
experiment splits them. Prints a table by variant and, as the last line, one JSON document. Exits 1 when an answer is
not a 200, or holds an item twice.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from training.data.dataset import load_dataset


@dataclass
class Tally:
    """What one variant answered."""

    seconds: list[float] = field(default_factory=list)
    degraded: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, object]:
        """Counts, and client-side latencies in milliseconds."""
        p50, p95, p99 = np.percentile(np.array(self.seconds) * 1e3, [50, 95, 99]).round(2).tolist()
        return {
            "answers": len(self.seconds),
            "degraded": dict(self.degraded),
            "fallbacks": dict(self.fallbacks),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
        }


async def replay(url: str, bodies: list[dict[str, object]], concurrency: int, console: Console) -> dict[str, object]:
    """Send every body to /v1/recommend; statuses, faults and a tally of each variant."""
    statuses: Counter[int] = Counter()
    tallies: dict[str, Tally] = {}
    faults: list[str] = []
    places = asyncio.Semaphore(concurrency)
    with Progress(console=console) as progress:
        task = progress.add_task("requests", total=len(bodies))

        async def send(client: httpx2.AsyncClient, body: dict[str, object]) -> None:
            async with places:
                started = time.perf_counter()
                response = await client.post("/v1/recommend", json=body)
                elapsed = time.perf_counter() - started
            statuses[response.status_code] += 1
            progress.advance(task)
            if response.status_code != 200:
                faults.append(response.text[:300])
                return
            answer = response.json()
            items = [item["item_id"] for item in answer["items"]]
            if len(items) != body["k"] or len(set(items)) != len(items):
                faults.append(f"{body['k']} distinct items expected, got {items}")
            tally = tallies.setdefault(answer["model"]["variant"], Tally())
            tally.seconds.append(elapsed)
            tally.degraded.update(answer["degraded"])
            tally.fallbacks.update([answer["fallback"]] if answer["fallback"] else [])

        async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
            await asyncio.gather(*(send(client, body) for body in bodies))
    return {
        "statuses": dict(statuses),
        "faults": faults,
        "variants": {name: tallies[name].summary() for name in sorted(tallies)},
    }


def main() -> None:
    """Parse the command line, replay, print."""
    parser = argparse.ArgumentParser(description="Replay real histories against a running service.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--data", type=Path, required=True, help="the data set that the served bundle was trained on")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--variant", help="force one variant instead of the experiment's split")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    dataset = load_dataset(arguments.data)
    item_ids = dataset.items["item_id"].to_pylist()
    instances = dataset.instances("test")
    chosen = np.random.default_rng(0).choice(
        len(instances.targets), min(arguments.count, len(instances.targets)), False
    )
    bodies = [
        {
            "user_id": f"user-{dataset.user_ids[instances.users[i]]}",
            "history": [item_ids[index - 1] for index in instances.histories[i]],
            "k": arguments.k,
            **({"variant": arguments.variant} if arguments.variant else {}),
        }
        for i in chosen
    ]
    result = asyncio.run(replay(arguments.url, bodies, arguments.concurrency, console))
    table = Table("variant", "answers", "degraded", "fallbacks", "p50 ms", "p95 ms", "p99 ms")
    for name, summary in result["variants"].items():  # type: ignore[attr-defined]
        table.add_row(name, *map(str, summary.values()))
    console.print(table)
    print(json.dumps(result))
    sys.exit(bool(result["faults"]))


if __name__ == "__main__":
    main()
