"""Puts the transition index of a bundle into Redis, by one replica for all, and keeps it there."""

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis

from service.errors import StoreFullError
from service.index_rows import ACTIVE, BUCKETS, Layout, encode_rows
from service.metrics import Metrics
from service.redis_link import RedisLink

CHUNK = 256  # items in one pipeline
DEADLINE_S = 2.0  # of one such pipeline
LOCK_MS = 30_000  # renewed with every chunk
ROWS_S = 12 * 3600
"""Rows expire, so that a Redis that evicts by time to live takes them before anything that cannot be had again, and so
that those of a bundle nobody serves any more go by themselves."""
RENEW_S = ROWS_S // 2  # after so long the rows are written anew
LOADED_S = 2 * ROWS_S
"""The mark of a whole index outlives the rows, or it would be evicted before them, and all be loaded again for it."""
RETRY_S = 60.0  # after Redis was found to be too small
OVERHEAD = 200  # bytes of an item beyond its value, as Redis 6.2 and Valkey 8 account for it: key, expiry, allocator
SAMPLE = 512  # items whose memory is measured

_log = structlog.get_logger()


class Memory(NamedTuple):
    """What the loaded index costs."""

    item_bytes: float
    """Mean over a sample of the items that are there."""
    missing: float
    """Share of the sample that has been evicted."""


class IndexLoader:
    """Loads one index. Replicas agree by a lock in Redis."""

    def __init__(self, layout: Layout, link: RedisLink, metrics: Metrics) -> None:
        self._layout = layout
        self._link = link
        self._metrics = metrics
        self._token = uuid.uuid4().hex.encode()
        self._evicted: set[int] = set()
        self._retry_at = 0.0
        self.loaded = False
        """Whether Redis held the whole index at the last upkeep."""

    def replace(self, items: Sequence[int]) -> None:
        """Write the rows of evicted items back with the next upkeep."""
        self._evicted.update(items)

    async def keep_loaded(self) -> None:
        """One round of upkeep: load the index if Redis lacks it, write evicted rows that were asked for back.

        Raises:
            StoreUnavailableError: Redis went away; try again later.
        """
        loaded = False
        try:
            await self._link.refresh()
            if time.monotonic() < self._retry_at:
                return
            found = await self._keep_loaded()
            if found and not self.loaded:
                await self._report()
            self._retry_at, loaded = 0.0, found
        except StoreFullError as error:
            self._refuse(str(error))
        finally:
            self.loaded = loaded

    async def _keep_loaded(self) -> bool:
        if not await self._whole():
            if not await self._lock():
                return False  # another replica is loading
            self.loaded = False
            await self._load()
        evicted, self._evicted = self._evicted, set()
        await self._write(sorted(evicted)[:CHUNK])
        return True

    async def _whole(self) -> bool:
        """Whether every row has been written, and not so long ago that it is time to renew them."""
        key = self._layout.loaded
        seconds = await self._link.call("check", key, lambda redis: redis.ttl(key), DEADLINE_S)
        return bool(seconds > LOADED_S - RENEW_S)

    def _refuse(self, reason: str) -> None:
        if not self._retry_at:  # said once, however often it is tried
            _log.warning("transition index does not fit into Redis: the bundle's copy answers", reason=reason)
        self._retry_at = time.monotonic() + RETRY_S

    async def _lock(self) -> bool:
        """Whether this replica is the one that loads."""
        key = self._layout.lock
        taken = await self._link.call("lock", key, lambda redis: redis.set(key, self._token, nx=True, px=LOCK_MS))
        # A load of ours that broke off still holds the lock.
        return bool(taken) or await self._link.call("lock", key, lambda redis: redis.get(key)) == self._token

    async def _load(self) -> None:
        """Load the index, with the lock held, and release it."""
        lock = self._layout.lock
        try:
            if not await self._whole():  # else a replica was done between our look and our lock
                await self._fill()
        except StoreFullError:
            await self._unload()  # what is left of the memory is for the histories of users
            raise
        finally:
            await self._link.call("lock", lock, lambda redis: redis.unlink(lock), DEADLINE_S)

    async def _fill(self) -> None:
        layout, link = self._layout, self._link
        started = time.perf_counter()
        await self._check_room()
        for items in _chunks(layout.items):
            await self._write(items)
            await link.call("lock", layout.lock, lambda redis: redis.pexpire(layout.lock, LOCK_MS), DEADLINE_S)
        await link.call(
            "load", layout.loaded, lambda redis: redis.set(layout.loaded, layout.items, ex=LOADED_S), DEADLINE_S
        )
        await link.call("load", ACTIVE, lambda redis: redis.set(ACTIVE, layout.version), DEADLINE_S)
        seconds = round(time.perf_counter() - started, 3)
        _log.info("transition index loaded", version=layout.version, items=layout.items, seconds=seconds)

    async def _write(self, items: Sequence[int]) -> None:
        """Put the rows of some items into Redis."""
        # In a thread: packing a chunk takes many times as long as a request may be held up.
        values = await asyncio.to_thread(
            lambda: {self._layout.row(item): encode_rows(self._layout.rows(item)) for item in items}
        )

        async def write(keys: Sequence[str]) -> None:
            def fill(redis: Redis) -> Awaitable[Any]:
                pipeline = redis.pipeline(transaction=False)
                for key in keys:
                    pipeline.set(key, values[key], ex=ROWS_S)
                return pipeline.execute()

            await self._link.call("load", keys[0], fill, DEADLINE_S)

        await asyncio.gather(*map(write, self._link.by_node(list(values))))

    async def _unload(self) -> None:
        mark = self._layout.loaded
        await self._link.call("load", mark, lambda redis: redis.unlink(mark), DEADLINE_S)
        for items in _chunks(self._layout.items):
            for keys in self._link.by_node([self._layout.row(item) for item in items]):
                await self._link.call("load", keys[0], partial(_unlink, keys), DEADLINE_S)

    async def _check_room(self) -> None:
        """Raise StoreFullError unless there is memory for the rows that are not there yet."""
        layout = self._layout
        need = (layout.bytes + layout.items * OVERHEAD) * (await self._measure()).missing
        for keys in self._link.by_node([layout.row(bucket) for bucket in range(BUCKETS)]):
            info = await self._link.call("memory", keys[0], lambda redis: redis.info("memory"), DEADLINE_S)
            limit, used, policy = info["maxmemory"], info["used_memory"], info["maxmemory_policy"]
            # Where only what expires gives way, that is the rows of older bundles first. Elsewhere nothing does, or
            # the histories of users would.
            room = limit if policy.startswith("volatile-") else limit - used
            share = need * len(keys) / BUCKETS
            if limit and share > room:
                lacking = math.ceil((share - room) / (1 << 20))
                raise StoreFullError(
                    f"the transition index of {layout.version} must find {_mb(share)} MB in Redis, got {_mb(room)} MB "
                    f"(maxmemory {_mb(limit)} MB, {_mb(used)} MB of it in use, policy {policy}). Raise maxmemory, or "
                    f"TANDEM_REDIS_MAX_MEMORY_MB of an embedded Redis, by {lacking} MB or more."
                )

    async def _measure(self) -> Memory:
        """What the rows cost, from a sample of the items."""
        step = max(1, self._layout.items // SAMPLE)
        groups = self._link.by_node([self._layout.row(item) for item in range(1, self._layout.items + 1, step)])
        answers = await asyncio.gather(
            *(self._link.call("memory", keys[0], partial(_memory, keys), DEADLINE_S) for keys in groups)
        )
        sizes = [size for answer in answers for size in answer]
        there = [size for size in sizes if size is not None]
        return Memory(sum(there) / max(1, len(there)), 1 - len(there) / max(1, len(sizes)))

    async def _report(self) -> None:
        """Publish what the loaded index costs."""
        memory, items = await self._measure(), self._layout.items
        self._metrics.index_item_bytes.set(memory.item_bytes)
        self._metrics.index_bytes.set(memory.item_bytes * items)
        _log.info(
            "transition index in Redis",
            version=self._layout.version,
            items=items,
            bytes_per_item=round(memory.item_bytes),
            megabytes=_mb(memory.item_bytes * items),
        )
        if memory.missing:
            _log.warning(
                "transition index does not fit into Redis: the bundle's copy answers for evicted rows",
                evicted=f"{memory.missing:.0%}",
                reason=f"{_mb(memory.item_bytes * items)} MB are needed besides what else is kept. Raise maxmemory, or "
                "TANDEM_REDIS_MAX_MEMORY_MB of an embedded Redis.",
            )


def _chunks(items: int) -> Iterator[range]:
    """The items 1..items, CHUNK at a time."""
    return (range(first, min(first + CHUNK, items + 1)) for first in range(1, items + 1, CHUNK))


def _unlink(keys: Sequence[str], redis: Redis) -> Awaitable[Any]:
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.unlink(key)
    return pipeline.execute()


def _memory(keys: Sequence[str], redis: Redis) -> Awaitable[list[int | None]]:
    pipeline = redis.pipeline(transaction=False)
    for key in keys:
        pipeline.memory_usage(key)
    return pipeline.execute()


def _mb(size: float) -> float:
    return round(size / (1 << 20), 1)
