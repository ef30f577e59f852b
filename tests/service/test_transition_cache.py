"""Rows through the LRU, Redis and the bundle's own copy: always the same rows, and a word when Redis was missing."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from models.bundle import Bundle
from service.index_rows import Layout
from service.metrics import Metrics
from service.redis_link import RedisLink
from service.transition_cache import LOOK_UPS_A_READ, READS_AT_ONCE, TransitionCache
from tests.service.redis_parts import counts_in_index, counts_of, deadline

ITEMS = range(1, 61)


async def cache_of(layout: Layout, link: RedisLink, lru_items: int = 1000, fresh_s: float = 60.0) -> TransitionCache:
    cache = TransitionCache(layout, link, Metrics(), lru_items, fresh_s)
    await cache.keep_loaded()
    return cache


async def mgets(client: Redis) -> int:
    """How many MGET commands the server has run."""
    found = await client.info("commandstats")
    return int(found["cmdstat_mget"]["calls"]) if "cmdstat_mget" in found else 0


async def test_rows_are_the_bundles_wherever_they_come_from(
    bundle: Bundle, layout: Layout, link: RedisLink, redis_client: Redis
) -> None:
    cache = await cache_of(layout, link)
    expected = counts_in_index(bundle.transitions, ITEMS)
    for reads in (1, 1):  # from Redis, then from the LRU
        found = await cache.fetch(ITEMS, deadline())
        assert counts_of(found.rows.items()) == expected
        assert not found.degraded
        assert await mgets(redis_client) == reads


async def test_look_ups_at_the_same_time_share_round_trips(
    layout: Layout, link: RedisLink, redis_client: Redis
) -> None:
    cache = await cache_of(layout, link, lru_items=0)
    answers = await asyncio.gather(*(cache.fetch([item, 1], deadline()) for item in range(2, 50)))
    assert [sorted(answer.rows) for answer in answers] == [[1, item] for item in range(2, 50)]
    assert await mgets(redis_client) == max(READS_AT_ONCE, -(-48 // LOOK_UPS_A_READ)) - 1


async def test_the_lru_is_bounded_and_its_rows_grow_old(layout: Layout, link: RedisLink, redis_client: Redis) -> None:
    cache = await cache_of(layout, link, lru_items=3, fresh_s=0.1)
    for item in (1, 2, 3, 1, 4):  # 2 is the one that was used longest ago
        await cache.fetch([item], deadline())
    assert await mgets(redis_client) == 4
    await cache.fetch([3, 1, 4], deadline())
    assert await mgets(redis_client) == 4
    await cache.fetch([2], deadline())
    assert await mgets(redis_client) == 5
    await asyncio.sleep(0.15)
    await cache.fetch([2], deadline())
    assert await mgets(redis_client) == 6


@pytest.mark.parametrize("damage", ["delete", "truncate"])
async def test_a_row_that_redis_lost_comes_from_the_bundle_and_is_written_back(
    bundle: Bundle, layout: Layout, link: RedisLink, redis_client: Redis, damage: str
) -> None:
    cache = await cache_of(layout, link)
    whole = await redis_client.get(layout.row(1))
    if damage == "delete":
        await redis_client.delete(layout.row(1))
    else:
        await redis_client.set(layout.row(1), whole[:-4])
    found = await cache.fetch(ITEMS, deadline())
    assert counts_of(found.rows.items()) == counts_in_index(bundle.transitions, ITEMS)
    assert found.degraded
    await cache.keep_loaded()
    assert await redis_client.get(layout.row(1)) == whole
    assert not (await cache.fetch(ITEMS, deadline())).degraded  # it was not remembered as it was


async def test_without_redis_the_bundle_answers(bundle: Bundle, layout: Layout) -> None:
    link = RedisLink(None, 4, 5.0, Metrics())
    cache = TransitionCache(layout, link, Metrics(), 1000, 60.0)
    found = await cache.fetch(ITEMS, deadline())
    assert counts_of(found.rows.items()) == counts_in_index(bundle.transitions, ITEMS)
    assert found.degraded
    assert not cache.loaded


async def test_a_deadline_that_has_passed_costs_no_round_trip(
    layout: Layout, link: RedisLink, redis_client: Redis
) -> None:
    cache = await cache_of(layout, link)
    found = await cache.fetch([1, 2], time.monotonic() - 1)
    assert found.degraded
    assert sorted(found.rows) == [1, 2]
    assert await mgets(redis_client) == 0


async def test_what_was_forgotten_while_it_was_read_is_read_again(
    layout: Layout, link: RedisLink, redis_client: Redis
) -> None:
    cache = await cache_of(layout, link)
    await redis_client.execute_command("CLIENT", "PAUSE", 400)
    reading = asyncio.create_task(cache.fetch([1], deadline()))
    await asyncio.sleep(0.1)  # it is waiting for Redis now
    cache.forget([1])
    await reading
    before = await mgets(redis_client)
    await cache.fetch([1], deadline())
    assert await mgets(redis_client) == before + 1


async def test_an_unknown_item_has_no_transitions(layout: Layout, link: RedisLink) -> None:
    cache = await cache_of(layout, link)
    assert counts_of((await cache.fetch([10**6], deadline())).rows.items()) == {}
