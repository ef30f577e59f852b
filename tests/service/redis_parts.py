"""What the tests of Redis share: a real cluster, links that break, and counts of transitions by brute force."""

import contextlib
import itertools
import math
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from models.transitions import DIRECTIONS, HOPS, Rows, TransitionIndex
from service.errors import StoreUnavailableError
from service.index_changes import Changes
from service.index_rows import Layout
from service.live_transitions import LiveTransitions
from service.metrics import Metrics
from service.redis_link import Command, RedisLink, Result
from service.redis_nodes import SLOTS
from service.redis_server import find_binary
from service.transition_cache import TransitionCache
from tests.service.servers import until

NODES = 3
ROUND_S = 60.0
BUS = 10_000  # a node listens to the others on its port + BUS

Counts = Counter[tuple[str, int, int, int]]
"""How often each (direction, item, distance, neighbour) was seen."""


def deadline() -> float:
    """One that no test meets."""
    return time.monotonic() + 30


def counts_of(rows: Iterable[tuple[int, Rows]]) -> Counts:
    """The transitions in the rows of items."""
    return Counter(
        {
            (direction, item, hop, neighbour): count
            for item, both in rows
            for direction, row in zip(DIRECTIONS, (both.forward, both.backward), strict=True)
            for hop in range(1, HOPS + 1)
            for neighbour, count in zip(row.neighbours[hop - 1].tolist(), row.counts[hop - 1].tolist(), strict=True)
        }
    )


def counts_in_index(index: TransitionIndex, items: Iterable[int]) -> Counts:
    """The transitions of items as a bundle has them."""
    return counts_of((item, Rows(index.row("forward", item), index.row("backward", item))) for item in items)


def counts_in_sequence(sequence: Sequence[int | None]) -> Counts:
    """The transitions of a sequence of items, by looking at every pair of places."""
    found: Counts = Counter()
    for (place, earlier), (later_place, later) in itertools.combinations(enumerate(sequence), 2):
        hop = later_place - place
        if hop <= HOPS and earlier is not None and later is not None:
            found[("forward", earlier, hop, later)] += 1
            found[("backward", later, hop, earlier)] += 1
    return found


def cache_on(link: RedisLink, layout: Layout, lru_items: int = 1000) -> TransitionCache:
    """The cache of one replica, with `Metrics` of its own; it follows changes when it is told to, due each ROUND_S."""
    return TransitionCache(layout, link, Metrics(), lru_items, Changes(layout, link, ROUND_S))


def live_on(link: RedisLink, layout: Layout) -> LiveTransitions:
    """What writes the live transitions of one replica."""
    return LiveTransitions(layout, link, Changes(layout, link, ROUND_S))


def age(cache: TransitionCache, seconds: float) -> None:
    """Let the last round of following be longer ago, as if that much time had passed."""
    cache._changes._followed_at -= seconds


def looked_up(cache: TransitionCache) -> dict[str, int]:
    """How many look-ups have ended where; ways that none took are left out."""
    value = cache._loader._metrics.registry.get_sample_value
    counts = {
        result: int(value("tandem_cache_requests_total", {"result": result}) or 0)
        for result in ("local", "redis", "evicted", "unavailable")
    }
    return {result: count for result, count in counts.items() if count}


async def calls(client: AsyncRedis, command: str) -> int:
    """How often a server has run a command."""
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def rows_there(client: AsyncRedis, layout: Layout) -> int:
    """How many rows of an index are in Redis."""
    return int(await client.exists(*map(layout.row, range(1, layout.items + 1))))


class FrailLink(RedisLink):
    """A link that breaks after some calls, for as long as the test likes."""

    calls_left: float = math.inf

    async def call(self, operation: str, key: str, command: Command[Result], deadline_s: float | None = None) -> Result:
        if self.calls_left <= 0:
            raise StoreUnavailableError("cut by the test")
        self.calls_left -= 1
        return await super().call(operation, key, command, deadline_s)


Link = TypeVar("Link", bound=RedisLink)


class Connect:
    """Makes links to one server or cluster, as many as a test has replicas."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._links: list[RedisLink] = []

    def __call__(self, kind: type[Link] = FrailLink, deadline_s: float = 5.0) -> Link:
        link = kind(self.url, 4, deadline_s, Metrics())
        self._links.append(link)
        return link

    async def close(self) -> None:
        for link in self._links:
            await link.close()


class ClusterNode:
    """One server of a cluster."""

    def __init__(self, port: int, folder: Path, *options: str) -> None:
        binary = find_binary()
        assert binary is not None
        folder.mkdir()
        self.port = port
        self.process = subprocess.Popen(
            [
                *(binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""),
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "500", *options),
            ],
            stdout=subprocess.DEVNULL,
        )
        self.client = Redis(port=port, socket_timeout=5)
        until(self._answers, "the node answers")

    def _answers(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return self.client.ping() is True
        return False

    def stop(self) -> None:
        """End it at once, without a word to the others."""
        self.client.close()
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def cluster(folder: Path, *options: str) -> Iterator[list[ClusterNode]]:
    """A Redis Cluster of NODES servers, each with a third of the slots and no replica."""
    nodes = [ClusterNode(port, folder / str(port), *options) for port in _ports()]
    try:
        for place, node in enumerate(nodes):
            first, last = (SLOTS * edge // NODES for edge in (place, place + 1))
            node.client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
            node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        for node in nodes:
            until(lambda node=node: _agreed(node), "the node knows all others and their slots")
        yield nodes
    finally:
        for node in nodes:
            node.stop()


def url_of(nodes: Sequence[ClusterNode]) -> str:
    """The URL that the service takes."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def _agreed(node: ClusterNode) -> bool:
    state = node.client.execute_command("CLUSTER INFO")["cluster_state"]
    return state == "ok" and len(node.client.execute_command("CLUSTER SLOTS")) == NODES


def _ports() -> list[int]:
    """Free ports whose bus ports exist."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for port in range(21_000, 55_000, 7):
            with contextlib.suppress(OSError):
                for candidate in (port, port + BUS):
                    stack.enter_context(socket.create_server(("127.0.0.1", candidate)))
                found.append(port)
            if len(found) == NODES:
                break
        return found
