"""Which Redis servers there are, and which of them holds a key; one server is a cluster of one.

Each node of a Redis Cluster gets a plain client of its own, chosen by a slot map that is read in the background. A
client for whole clusters would read the map anew inside the call that failed, far beyond a request's deadline, and one
dead node would delay the calls to all others.
"""

import time
from asyncio import Semaphore
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from service.errors import StoreUnavailableError

FAILURES_TO_OPEN = 3
OPEN_S = 0.5
SLOTS = 16_384

_CLUSTER = "+cluster"


class Breaker:
    """Skips calls for a while after several failures in a row, so that a dead server does not cost a deadline each."""

    def __init__(self, failures: int = FAILURES_TO_OPEN, open_s: float = OPEN_S) -> None:
        self._limit = failures
        self._open_s = open_s
        self.failures = 0
        """How many calls in a row have failed."""
        self._until = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are to be skipped now. When the time is over one call may try, and decides what follows."""
        if self.failures < self._limit:
            return False
        now = time.monotonic()
        if now < self._until:
            return True
        self._until = now + self._open_s
        return False

    def succeed(self) -> None:
        """Close."""
        self.failures = 0

    def fail(self) -> None:
        """Count a failure; open when there have been enough in a row."""
        self.failures += 1
        self._until = time.monotonic() + self._open_s


class Node:
    """One server: bounded connections to it, and a breaker for when it is away."""

    def __init__(self, url: str, connections: int) -> None:
        self.url = url
        self.free = Semaphore(connections)
        """Held for a call, so that a call does not wait for a connection while its deadline runs."""
        self.breaker = Breaker()
        self.client = Redis.from_pool(
            ConnectionPool.from_url(
                url,
                max_connections=connections,
                # Neither a handshake nor a greeting: a new connection is ready for a request within its deadline.
                protocol=2,
                driver_info=None,
                # One retry at once: after a restart of the server the first command meets a dead connection.
                retry=Retry(NoBackoff(), 1),
            )
        )


class _Range(NamedTuple):
    """The slots from `first` to `last`, both included, and who holds them."""

    first: int
    last: int
    node: Node


class Nodes:
    """The servers behind one URL: `redis://`, `rediss://` or `unix://`, or a cluster.

    The URL of a cluster is `redis+cluster://host:port,host:port` (or `rediss+cluster`): it names some of the nodes, and
    these know the others.
    """

    def __init__(self, url: str, connections: int) -> None:
        self._connections = connections
        self.clustered = urlsplit(url).scheme.endswith(_CLUSTER)
        seeds = [Node(seed, connections) for seed in _seeds(url)]
        self._nodes = {node.url: node for node in seeds}
        self._seeds = frozenset(self._nodes)
        # Without a cluster the one server holds every slot; of a cluster nothing is known yet.
        self._ranges = [] if self.clustered else [_Range(0, SLOTS - 1, seeds[0])]

    @property
    def known(self) -> list[Node]:
        """Every server, those first that seem to be well."""
        return sorted(self._nodes.values(), key=lambda node: node.breaker.failures)

    @property
    def serving(self) -> list[Node]:
        """The servers that hold slots."""
        return list({node.url: node for _, _, node in self._ranges}.values())

    def of(self, key: str) -> Node:
        """The server that holds a key.

        Raises:
            StoreUnavailableError: no server holds the key's slot, as far as is known.
        """
        slot = key_slot(key.encode())
        place = bisect_right(self._ranges, slot, key=lambda held: held.first) - 1
        if place < 0 or self._ranges[place].last < slot:
            raise StoreUnavailableError(
                f"every slot must be held by a node of the Redis cluster, and none is known for slot {slot}; "
                "see CLUSTER SLOTS"
            )
        return self._ranges[place].node

    def learn(self, slots: Sequence[Any], teller: Node) -> list[Node]:
        """Take over what a node answered to CLUSTER SLOTS; the servers that are no longer needed."""
        held = []
        for first, last, (host, port, *_), *_replicas in slots:
            # A server that does not know its own name answers with an empty one.
            url = _with_host(teller.url, host.decode() if host else urlsplit(teller.url).hostname or "", port)
            if url not in self._nodes:
                self._nodes[url] = Node(url, self._connections)
            held.append(_Range(first, last, self._nodes[url]))
        self._ranges = sorted(held, key=lambda found: found.first)
        needed = self._seeds | {node.url for node in self.serving}
        gone = [node for url, node in self._nodes.items() if url not in needed]
        for node in gone:
            del self._nodes[node.url]
        return gone


def _seeds(url: str) -> list[str]:
    """The URL of each host that `url` names."""
    parts = urlsplit(url)
    scheme = parts.scheme.removesuffix(_CLUSTER)
    if scheme == parts.scheme:
        return [url]
    credentials, at, hosts = parts.netloc.rpartition("@")
    return [parts._replace(scheme=scheme, netloc=f"{credentials}{at}{host}").geturl() for host in hosts.split(",")]


def _with_host(url: str, host: str, port: int) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}{at}{f'[{host}]' if ':' in host else host}:{port}").geturl()
