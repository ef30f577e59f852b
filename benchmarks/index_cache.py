"""The transition index in Redis: seconds to load, memory, and milliseconds to look up the items of a request.

    python -m benchmarks.index_cache --json benchmarks/results/index_cache.json

A synthetic index of 100,000 items, about 10 events each, goes into an embedded Redis. A request looks up 14 items: the
last four of a history and ten more that random walks over the index lead to, so that popular items come up often.
Prints a table and, as the last line, one JSON document.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.index_build import MEAN_LENGTH, user_events
from benchmarks.machine import machine
from benchmarks.reporting import emit, percentiles
from loadtest.walks import Walker
from models.transitions import HOPS, TransitionIndex
from service.index_changes import Changes
from service.index_rows import Layout
from service.metrics import Metrics
from service.redis_link import RedisLink
from service.redis_server import RedisServer
from service.transition_cache import TransitionCache
from training.index_build import build_index

ITEMS = 100_000
EVENTS_AN_ITEM = 10
K = 10
AT_ONCE = 16
CONNECTIONS = 16
PATIENCE_S = 60.0  # deadlines are not what is measured
REDIS_SHARE = 4  # the most memory that Redis may take, in sizes of all values

Request = Sequence[int]


def synthetic_index(items: int, seed: int = 0) -> TransitionIndex:
    """An index like that of a shop: an item's share of the events falls with the root of its rank.

    The most popular of 12,000 items then has 0.2 % of the events that do not follow the item before, as in Beauty.
    """
    shares = np.cumsum(1 / np.sqrt(np.arange(1, items + 1)))
    users = np.arange(items * EVENTS_AN_ITEM // MEAN_LENGTH)
    events = user_events(users, shares / shares[-1], np.random.default_rng(seed))
    user, item = (events[name].to_numpy() for name in ("user_id", "item_id"))
    order = np.argsort(user, kind="stable")  # they came sorted by time
    ends = np.cumsum(np.bincount(user))[:-1]
    return build_index(np.split((item[order] + 1).astype(np.int32), ends), items)


def requests_of(index: TransitionIndex, count: int) -> list[Request]:
    """What requests look up."""
    walker = Walker(index, seed=1)
    drawn = (walker.request(K) for _ in range(count))
    return [[*request.history[-HOPS:], *request.items] for request in drawn]


class Stand:
    """One loaded Redis."""

    def __init__(self, index: TransitionIndex, server: RedisServer) -> None:
        self.layout = Layout("benchmark@1-0123456789ab", index)
        self.metrics = Metrics()
        self._link = RedisLink(server.url, CONNECTIONS, PATIENCE_S, self.metrics)
        self._client = Redis.from_url(server.url)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
        await self._link.close()

    async def load(self) -> dict[str, float]:
        """Load the index; seconds, and what it takes."""
        before, started = await self._used(), time.perf_counter()
        cache = self._cache(self._link, lru_items=0)
        await cache.keep_loaded()
        seconds = time.perf_counter() - started
        if not cache.loaded:
            raise SystemExit("the index must fit into the embedded Redis, and was refused; see the log above")
        used, items = await self._used() - before, self.layout.items
        reported = self.metrics.registry.get_sample_value("tandem_index_item_bytes")
        return {
            "seconds": round(seconds, 2),
            "values_mib": round(self.layout.bytes / 2**20, 1),
            "redis_mib": round(used / 2**20, 1),
            "values_bytes_per_item": round(self.layout.bytes / items),
            "redis_bytes_per_item": round(used / items),
            "reported_bytes_per_item": round(reported or 0),
        }

    async def look_up(self, requests: Sequence[Request]) -> dict[str, dict[str, float]]:
        """Percentiles in ms by way."""
        nobody = RedisLink(None, CONNECTIONS, PATIENCE_S, self.metrics)
        cold, warm = self._cache(self._link, lru_items=0), self._cache(self._link, self.layout.items)
        await warm.follow()
        for request in requests:
            await _fetch(warm, [request])
        batches = [requests[first : first + AT_ONCE] for first in range(0, len(requests), AT_ONCE)]
        singles = [[request] for request in requests]
        return {
            "through Redis": await _times(cold, singles),
            f"through Redis, {AT_ONCE} requests in one round trip": await _times(cold, batches),
            "in process": await _times(warm, singles),
            "from the bundle's copy": await _times(self._cache(nobody, lru_items=0), singles, degraded=True),
        }

    async def redis_version(self) -> str:
        """The version of the server."""
        return str((await self._client.info("server"))["redis_version"])

    def _cache(self, link: RedisLink, lru_items: int) -> TransitionCache:
        return TransitionCache(self.layout, link, self.metrics, lru_items, Changes(self.layout, link, round_s=3600.0))

    async def _used(self) -> int:
        return int((await self._client.info("memory"))["used_memory"])


async def _times(
    cache: TransitionCache, batches: Sequence[Sequence[Request]], degraded: bool = False
) -> dict[str, float]:
    for batch in batches[: len(batches) // 10]:
        await _fetch(cache, batch, degraded)
    times = []
    for batch in batches:
        started = time.perf_counter()
        await _fetch(cache, batch, degraded)
        times.append(time.perf_counter() - started)
    return percentiles(times)


async def _fetch(cache: TransitionCache, batch: Sequence[Request], degraded: bool = False) -> None:
    deadline = time.monotonic() + PATIENCE_S
    answers = await asyncio.gather(*(cache.fetch(request, deadline) for request in batch))
    if any(found.degraded != degraded for found in answers):
        raise SystemExit(f"every look-up must {'miss' if degraded else 'reach'} Redis, and one did not")


async def measure(index: TransitionIndex, requests: Sequence[Request]) -> dict[str, Any]:
    """Load an index into a Redis of its own, and look requests up."""
    server = RedisServer(max(64, REDIS_SHARE * Layout("size", index).bytes // 2**20))
    try:
        await server.start()
        stand = Stand(index, server)
        load = await stand.load()
        found = {
            "items": index.num_items,
            "transitions": sum(map(len, index.forward.neighbours)),
            "requests": len(requests),
            "items_a_request": HOPS + K,
            "redis": await stand.redis_version(),
            "load": load,
            "look_ups": await stand.look_up(requests),
        }
        await stand.close()
        return found
    finally:
        server.stop()


def report(results: dict[str, Any]) -> Table:
    """The results as a table."""
    load, items = results["load"], results["items"]
    table = Table("", "p50, ms", "p99, ms", title=f"transition index of {items:,} items in Redis {results['redis']}")
    for way, times in results["look_ups"].items():
        table.add_row(f"{results['items_a_request']} items {way}", *(f"{ms:.3f}" for ms in times.values()))
    table.caption = (
        f"loaded in {load['seconds']} s; "
        f"values {load['values_mib']} MiB, {load['values_bytes_per_item']} bytes an item; "
        f"in Redis {load['redis_mib']} MiB, {load['redis_bytes_per_item']} bytes an item"
    )
    return table


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time the transition index in Redis.")
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    console = Console(stderr=True)
    with console.status("counting transitions"):
        index = synthetic_index(arguments.items)
        requests = requests_of(index, arguments.requests)
    versions = {name: version(name) for name in ("redis", "hiredis", "numpy")}
    results = {"machine": machine(), "versions": versions, **asyncio.run(measure(index, requests))}
    console.print(report(results))
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
