"""Loading an index into a real Redis: whole, once, again after a failure, and beside the old version."""

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from service.errors import StoreUnavailableError
from service.index_loader import CHUNK, RENEW_S, ROWS_S, IndexLoader
from service.index_rows import ACTIVE, Layout, decode_rows
from service.metrics import Metrics
from service.redis_server import RedisServer
from tests.service.redis_parts import Connect, FrailLink, calls, counts_in_index, counts_of, rows_there
from tests.service.servers import until
from training.index_build import build_index


def loader_of(layout: Layout, link: FrailLink) -> IndexLoader:
    return IndexLoader(layout, link, Metrics())


async def check_rows(client: Redis, layout: Layout) -> None:
    """Every row in Redis is the bundle's."""
    items = range(1, layout.items + 1)
    values = await client.mget([layout.row(item) for item in items])
    found = {item: decode_rows(value) for item, value in zip(items, values, strict=True)}
    assert None not in found.values()
    assert counts_of((item, rows) for item, rows in found.items() if rows) == counts_in_index(layout._index, items)


async def test_every_row_is_loaded_and_expires(connect: Connect, redis_client: Redis, many: Layout) -> None:
    loader = loader_of(many, connect())
    assert not loader.loaded
    await loader.keep_loaded()
    assert loader.loaded
    await check_rows(redis_client, many)
    assert await redis_client.dbsize() == many.items + 2  # `loaded` and `active`; the lock is free again
    for item in (1, CHUNK, CHUNK + 1, many.items):
        assert ROWS_S - 60 < await redis_client.ttl(many.row(item)) <= ROWS_S


async def test_rows_are_written_anew_long_before_they_expire(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    loader = loader_of(many, connect())
    await loader.keep_loaded()
    written = await calls(redis_client, "set")
    await loader.keep_loaded()
    assert await calls(redis_client, "set") == written

    for key in (many.loaded, many.row(1), many.row(many.items)):  # as if that much time had passed
        await redis_client.expire(key, await redis_client.ttl(key) - RENEW_S - 1)
    await loader.keep_loaded()
    assert loader.loaded
    assert min([await redis_client.ttl(many.row(item)) for item in (1, many.items)]) > ROWS_S - 60
    assert await calls(redis_client, "set") > 2 * many.items


class WatchingLink(FrailLink):
    """A link that looks at a loader whenever that calls Redis."""

    loader: IndexLoader
    seen: list[bool]

    async def call(self, *arguments: Any, **options: Any) -> Any:
        self.seen.append(self.loader.loaded)
        return await super().call(*arguments, **options)


async def test_an_index_stays_loaded_during_upkeep_and_not_while_it_is_missing(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    link = connect(WatchingLink)
    link.loader, link.seen = loader_of(many, link), []
    await link.loader.keep_loaded()
    assert not any(link.seen)
    link.seen.clear()
    await link.loader.keep_loaded()
    assert link.seen
    assert all(link.seen)
    await redis_client.flushall()
    link.seen.clear()
    await link.loader.keep_loaded()
    assert not any(link.seen[2:])  # after the look at Redis and the lock
    assert link.loader.loaded
    link.calls_left = 0
    with pytest.raises(StoreUnavailableError):
        await link.loader.keep_loaded()
    assert not link.loader.loaded


async def test_of_five_replicas_one_loads(connect: Connect, redis_client: Redis, many: Layout) -> None:
    loaders = [loader_of(many, connect()) for _ in range(5)]
    await asyncio.gather(*(loader.keep_loaded() for loader in loaders))
    assert [loader.loaded for loader in loaders].count(True) == 1
    await asyncio.gather(*(loader.keep_loaded() for loader in loaders))
    assert all(loader.loaded for loader in loaders)
    # Each row once; besides these, one try for the lock each, `loaded` and `active`.
    assert await calls(redis_client, "set") == many.items + 5 + 2
    await check_rows(redis_client, many)


class LateLink(FrailLink):
    """A link whose first try for the lock comes late."""

    before_lock: Callable[[], Awaitable[None]]

    async def call(self, operation: str, *arguments: Any, **options: Any) -> Any:
        if operation == "lock":
            await self.before_lock()
        return await super().call(operation, *arguments, **options)


async def test_a_replica_that_gets_the_lock_just_after_a_load_does_not_repeat_it(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    first, late = loader_of(many, connect()), connect(LateLink)
    late.before_lock = first.keep_loaded
    second = loader_of(many, late)
    await second.keep_loaded()
    assert second.loaded
    assert await calls(redis_client, "set") == many.items + 2 + 2
    assert not await redis_client.exists(many.lock)


async def test_the_lock_of_a_dead_replica_expires(connect: Connect, redis_client: Redis, many: Layout) -> None:
    dead, loader = connect(), loader_of(many, connect())
    dead.calls_left = 8
    with pytest.raises(StoreUnavailableError, match="cut by the test"):
        await loader_of(many, dead).keep_loaded()
    assert 0 < await rows_there(redis_client, many) < many.items
    assert 20_000 < await redis_client.pttl(many.lock) <= 30_000
    await loader.keep_loaded()
    assert not loader.loaded

    await redis_client.pexpire(many.lock, 1)  # as if the time had passed
    await asyncio.sleep(0.01)
    await loader.keep_loaded()
    assert loader.loaded
    await check_rows(redis_client, many)


async def test_a_load_that_broke_off_is_finished_by_who_began_it(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    link = connect()
    loader = loader_of(many, link)
    link.calls_left = 8
    with pytest.raises(StoreUnavailableError):
        await loader.keep_loaded()
    assert not loader.loaded
    link.calls_left = math.inf
    assert await redis_client.exists(many.lock)
    await loader.keep_loaded()
    assert loader.loaded
    await check_rows(redis_client, many)


async def test_a_load_into_a_redis_that_dies_is_done_again(
    connect: Connect, redis: RedisServer, redis_client: Redis, many: Layout
) -> None:
    loader = loader_of(many, connect())
    loading = asyncio.create_task(loader.keep_loaded())
    while not await redis_client.exists(many.row(CHUNK)):
        await asyncio.sleep(0)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    with pytest.raises(StoreUnavailableError):
        await loading
    until(lambda: redis.pid is None, "it is gone")
    await redis.start()
    await loader.keep_loaded()
    assert loader.loaded
    await check_rows(redis_client, many)


async def test_a_new_version_is_loaded_beside_the_old_and_becomes_active_once_it_is_whole(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    layout = Layout("many@0-0123456789ab", build_index([np.array([1, 2, 3], dtype=np.int32)], 600))
    await loader_of(layout, connect()).keep_loaded()
    assert await redis_client.get(ACTIVE) == layout.version.encode()
    link = connect()
    loader = loader_of(many, link)
    link.calls_left = 10
    with pytest.raises(StoreUnavailableError):
        await loader.keep_loaded()
    assert await rows_there(redis_client, many) >= CHUNK
    assert await redis_client.get(ACTIVE) == layout.version.encode()
    assert not await redis_client.exists(many.loaded)
    link.calls_left = math.inf
    await loader.keep_loaded()
    assert await redis_client.get(ACTIVE) == many.version.encode()
    await check_rows(redis_client, many)
    await check_rows(redis_client, layout)


async def test_an_item_without_transitions_has_a_value_too(connect: Connect, redis_client: Redis) -> None:
    lonely = Layout("lonely@1-0123456789ab", build_index([np.array([1, 2], dtype=np.int32)], 3))
    await loader_of(lonely, connect()).keep_loaded()
    await check_rows(redis_client, lonely)
