"""The transition index behind three doors: an LRU in process, Redis, and the bundle's own copy.

Redis is a cache, never a single point of failure: whatever it does not deliver in time comes from the bundle, and the
answer says so. Keys carry the bundle's identity, so that a new version is loaded beside the old one:

    tandem:{demo@1-<digest>}:f:<index>   the forward row of an item, packed by `encode_row`; empty rows too, so that a
    tandem:{demo@1-<digest>}:b:<index>   missing key always means an evicted one
    tandem:{demo@1-<digest>}:loaded      set when every row is there
    tandem:{demo@1-<digest>}:lock        held by the replica that is loading
    tandem:active                        the version that was loaded last
"""

import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import structlog
from redis.asyncio import Redis

from models.bundle import TRANSITIONS, Bundle
from models.errors import BundleError
from models.transitions import Row, RowTable, decode_row, encode_row
from service.batcher import Batcher, Slots
from service.errors import DeadlineError, StoreUnavailableError
from service.metrics import Metrics
from service.redis_link import RedisLink

ACTIVE = "tandem:active"
LOAD_CHUNK = 512  # items in one pipeline of the loader
LOAD_DEADLINE_S = 2.0  # of one such pipeline
LOCK_MS = 30_000  # renewed with every chunk
READS_AT_ONCE = 4  # MGETs under way; while all are, further look-ups gather into the next one
LOOK_UPS_A_READ = 64

_log = structlog.get_logger()


class Rows(NamedTuple):
    """An item's transitions in both directions."""

    forward: Row
    backward: Row


@dataclass(frozen=True)
class Fetched:
    """Rows by item, and whether the bundle's copy had to stand in for Redis."""

    rows: Mapping[int, Rows]
    degraded: bool

    def __or__(self, other: "Fetched") -> "Fetched":
        return Fetched({**self.rows, **other.rows}, self.degraded or other.degraded)

    def table(self) -> RowTable:
        """The rows as `models.categories` reads them."""
        return RowTable(
            {item: rows.forward for item, rows in self.rows.items()},
            {item: rows.backward for item, rows in self.rows.items()},
        )


class TransitionCache:
    """Reads and loads the rows of one bundle."""

    def __init__(self, bundle: Bundle, link: RedisLink, metrics: Metrics, lru_items: int) -> None:
        self._index = bundle.transitions
        self.version = f"{bundle.identity}-{bundle.manifest.files[TRANSITIONS].sha256[:12]}"
        self._prefix = f"tandem:{{{self.version}}}"
        self._link = link
        self._metrics = metrics
        self._lru: OrderedDict[int, Rows] = OrderedDict()
        self._lru_items = lru_items
        self._evicted: set[int] = set()
        self._token = uuid.uuid4().hex.encode()
        self.loaded = False
        """Whether Redis held the whole index at the last upkeep."""
        self._reads: Batcher[Sequence[int], Mapping[int, Rows]] = Batcher(
            "transition_index", self._read, Slots(READS_AT_ONCE), metrics, LOOK_UPS_A_READ
        )

    async def fetch(self, items: Iterable[int], deadline: float) -> Fetched:
        """The rows of some items; `deadline` is the request's, on the clock of `time.monotonic`."""
        wanted = set(items)
        rows = {item: self._lru[item] for item in wanted if item in self._lru}
        for item in rows:
            self._lru.move_to_end(item)
        missing = sorted(wanted - rows.keys())
        self._metrics.cache.labels("local").inc(len(rows))
        if not missing:
            return Fetched(rows, degraded=False)
        try:
            rows |= (await self._reads.submit(missing, deadline)).answer
            error = "evicted"
        except (StoreUnavailableError, DeadlineError):
            error = "unavailable"
        absent = wanted - rows.keys()
        self._metrics.cache.labels("redis").inc(len(wanted) - len(absent))
        self._metrics.cache.labels(error).inc(len(absent))
        return Fetched(rows | {item: self._own(item) for item in absent}, degraded=bool(absent))

    async def keep_loaded(self) -> None:
        """One round of upkeep: load the index if Redis lacks it, write evicted rows that were asked for back.

        Raises:
            StoreUnavailableError: Redis went away; try again later.
        """
        try:
            self.loaded = await self._keep_loaded()
        except StoreUnavailableError:
            self.loaded = False
            raise

    async def _keep_loaded(self) -> bool:
        if not await self._link.call("check", lambda redis: redis.exists(f"{self._prefix}:loaded"), LOAD_DEADLINE_S):
            if not await self._lock():
                return False  # another replica is loading
            await self._load()
        evicted, self._evicted = self._evicted, set()
        await self._write(sorted(evicted)[:LOAD_CHUNK])
        return True

    async def _read(self, batch: list[Sequence[int]]) -> list[Mapping[int, Rows]]:
        """Answer several look-ups with one MGET."""
        items = sorted({item for wanted in batch for item in wanted})
        keys = [key for item in items for key in self._keys(item)]
        values = await self._link.call("mget", lambda redis: redis.mget(keys))
        found = {
            item: rows
            for item, forward, backward in zip(items, values[::2], values[1::2], strict=True)
            if (rows := _decode(forward, backward)) is not None
        }
        self._evicted.update(item for item in items if item not in found)
        self._remember(found)
        return [{item: found[item] for item in wanted if item in found} for wanted in batch]

    def _remember(self, found: Mapping[int, Rows]) -> None:
        self._lru.update(found)
        while len(self._lru) > self._lru_items:
            self._lru.popitem(last=False)

    async def _lock(self) -> bool:
        """Whether this replica is the one that loads."""
        key = f"{self._prefix}:lock"
        taken = await self._link.call("lock", lambda redis: redis.set(key, self._token, nx=True, px=LOCK_MS))
        # A load of ours that broke off still holds the lock.
        return bool(taken) or await self._link.call("lock", lambda redis: redis.get(key)) == self._token

    async def _load(self) -> None:
        started = time.perf_counter()
        for first in range(1, self._index.num_items + 1, LOAD_CHUNK):
            await self._write(range(first, min(first + LOAD_CHUNK, self._index.num_items + 1)))

        async def finish(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            pipeline.set(f"{self._prefix}:loaded", self._index.num_items)
            pipeline.set(ACTIVE, self.version)
            pipeline.unlink(f"{self._prefix}:lock")
            await pipeline.execute()

        await self._link.call("load", finish, LOAD_DEADLINE_S)
        _log.info(
            "transition index loaded",
            version=self.version,
            items=self._index.num_items,
            seconds=round(time.perf_counter() - started, 3),
        )

    async def _write(self, items: Sequence[int]) -> None:
        """Put the rows of some items into Redis and renew the lock."""
        if not items:
            return
        values = {
            key: encode_row(row) for item in items for key, row in zip(self._keys(item), self._own(item), strict=True)
        }

        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            pipeline.mset(values)
            pipeline.pexpire(f"{self._prefix}:lock", LOCK_MS)
            await pipeline.execute()

        await self._link.call("load", write, LOAD_DEADLINE_S)

    def _keys(self, item: int) -> tuple[str, str]:
        return f"{self._prefix}:f:{item}", f"{self._prefix}:b:{item}"

    def _own(self, item: int) -> Rows:
        return Rows(self._index.row("forward", item), self._index.row("backward", item))


def _decode(forward: bytes | str | None, backward: bytes | str | None) -> Rows | None:
    """The rows of an item, or None when one is missing or damaged."""
    if not isinstance(forward, bytes) or not isinstance(backward, bytes):
        return None
    try:
        return Rows(decode_row(forward), decode_row(backward))
    except BundleError:
        return None
