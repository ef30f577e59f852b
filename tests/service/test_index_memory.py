"""What a loaded index takes, and what happens where Redis has too little memory for it: histories come first."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from service.index_loader import CHUNK, OVERHEAD, IndexLoader
from service.index_rows import ACTIVE, Layout
from service.metrics import Metrics
from service.user_histories import UserEvent, UserHistories
from tests.service.redis_parts import (
    Connect,
    FrailLink,
    cache_on,
    calls,
    counts_in_index,
    counts_of,
    deadline,
    rows_there,
)


def loader_of(layout: Layout, link: FrailLink, metrics: Metrics | None = None) -> IndexLoader:
    return IndexLoader(layout, link, metrics or Metrics())


async def test_the_memory_report_is_what_redis_accounts_for(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    metrics, before = Metrics(), (await redis_client.info("memory"))["used_memory"]
    await loader_of(many, connect(), metrics).keep_loaded()
    used = (await redis_client.info("memory"))["used_memory"] - before
    sizes = [await redis_client.memory_usage(many.row(item)) for item in range(1, many.items + 1)]
    item_bytes, total = (metrics.registry.get_sample_value(f"tandem_index_{name}") for name in ("item_bytes", "bytes"))
    assert item_bytes == pytest.approx(sum(sizes) / len(sizes), rel=0.03)
    assert total == pytest.approx(item_bytes * many.items)
    assert total == pytest.approx(used, rel=0.15)
    # What is asked for before a load is enough, and not much more than that.
    assert used < many.bytes + many.items * OVERHEAD < 1.2 * used


async def histories_of(link: FrailLink, users: int) -> Callable[[], Awaitable[int]]:
    """Store histories; how many of them are still whole."""
    histories = UserHistories(link, 200, 90)
    await histories.append([UserEvent(f"user-{n % users}", f"item-{n}") for n in range(20 * users)])

    async def whole() -> int:
        return sum([len(await histories.read(f"user-{user}")) == 20 for user in range(users)])

    return whole


async def limit_memory(client: Redis, size: int, policy: str) -> None:
    await client.config_set("maxmemory-policy", policy)
    await client.config_set("maxmemory", size)


@pytest.mark.parametrize("policy", ["volatile-ttl", "noeviction", "allkeys-lru"])
async def test_too_small_a_redis_is_left_to_the_histories(
    connect: Connect, redis_client: Redis, many: Layout, capfd: pytest.CaptureFixture[str], policy: str
) -> None:
    link, loader = connect(), loader_of(many, connect())
    whole = await histories_of(link, 100)
    need = many.bytes + many.items * OVERHEAD
    used = (await redis_client.info("memory"))["used_memory"]
    limit = need - 300_000 if policy == "volatile-ttl" else used + need - 300_000
    await limit_memory(redis_client, limit, policy)
    await loader.keep_loaded()
    assert not loader.loaded
    assert await rows_there(redis_client, many) == 0
    assert await whole() == 100
    message = capfd.readouterr().out
    assert f"must find {need / 2**20:.1f} MB in Redis" in message
    missing = re.search(r"TANDEM_REDIS_MAX_MEMORY_MB of an embedded Redis, by ([0-9]+) MB or more", message)
    assert missing is not None

    await redis_client.config_set("maxmemory", limit + int(missing[1]) * 2**20)
    again = loader_of(many, connect())  # this one has not put off its next try
    await again.keep_loaded()
    assert again.loaded
    assert await whole() == 100


async def test_a_refusal_is_said_once_and_not_tried_again_at_once(
    connect: Connect, redis_client: Redis, many: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    loader = loader_of(many, connect())
    await limit_memory(redis_client, 2**21, "volatile-ttl")
    for _ in range(3):
        await loader.keep_loaded()
    assert capfd.readouterr().out.count("does not fit") == 1
    assert await calls(redis_client, "set") == 1  # the lock


class FillingLink(FrailLink):
    """A link to a Redis that becomes full in the middle of a load."""

    calls_made = 0
    fill: Callable[[], Awaitable[None]]

    async def call(self, *arguments: Any, **options: Any) -> Any:
        self.calls_made += 1
        if self.calls_made == 10:
            await self.fill()
        return await super().call(*arguments, **options)


async def test_a_redis_that_fills_up_amid_a_load_is_left_to_the_histories(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    whole = await histories_of(connect(), 100)
    link = connect(FillingLink)
    seen = []

    async def fill() -> None:
        seen.append(await rows_there(redis_client, many))
        await limit_memory(redis_client, 1, "noeviction")

    link.fill = fill
    loader = loader_of(many, link)
    await loader.keep_loaded()
    assert seen[0] >= CHUNK
    assert not loader.loaded
    assert await rows_there(redis_client, many) == 0
    assert not await redis_client.exists(many.lock, many.loaded, ACTIVE)
    assert await whole() == 100


async def test_where_histories_leave_too_little_rows_give_way_and_not_the_histories(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    whole = await histories_of(connect(), 600)
    cache = cache_on(connect(), many, lru_items=0)
    await limit_memory(redis_client, many.bytes + many.items * OVERHEAD + 2**19, "volatile-ttl")
    await cache.keep_loaded()
    there = await rows_there(redis_client, many)
    assert cache.loaded
    assert many.items // 5 < there < many.items
    written = await calls(redis_client, "set")
    missing = 0
    for first in range(1, many.items + 1, 100):
        asked = range(first, first + 100)
        missing += 100 - await redis_client.exists(*map(many.row, asked))
        found = await cache.fetch(asked, deadline())
        assert counts_of(found.rows.items()) == counts_in_index(many._index, asked)
        await cache.keep_loaded()
    assert cache.loaded
    assert await whole() == 600
    # Evicted rows were written back when they were asked for; the whole index was not loaded again and again.
    assert await calls(redis_client, "set") - written == pytest.approx(missing, rel=0.1)
