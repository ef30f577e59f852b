"""The LRU, Redis and the bundle's copy: which of them answers, and that the rows are the same from each."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis

from service.errors import StoreUnavailableError
from service.index_changes import LIVE_DAYS, ROUNDS, Changes
from service.index_rows import ACTIVE, Layout, decode_rows, encode_live
from service.redis_server import RedisServer
from service.transition_cache import READS_AT_ONCE, Fetched, TransitionCache
from tests.service.redis_parts import (
    ROUND_S,
    Connect,
    FrailLink,
    age,
    cache_on,
    calls,
    counts_in_index,
    counts_of,
    deadline,
    live_on,
    looked_up,
)
from tests.service.servers import until

Happening = Callable[[Redis, Layout, Connect], Awaitable[None]]
Harm = Callable[[Redis, Layout, Sequence[int]], Awaitable[None]]
ITEMS = [3, 5, 8, 13, 21, 34]


def check(found: Fetched, layout: Layout, items: Iterable[int], degraded: bool = False) -> None:
    """What was fetched is what the bundle has."""
    assert found.rows.keys() == set(items)
    assert counts_of(found.rows.items()) == counts_in_index(layout._index, items)
    assert found.degraded == degraded


async def loaded(connect: Connect, layout: Layout, lru_items: int = 1000) -> TransitionCache:
    cache = cache_on(connect(), layout, lru_items)
    await cache.keep_loaded()
    assert cache.loaded
    await cache.follow()
    return cache


async def test_rows_from_redis_and_from_the_process_are_the_bundles(connect: Connect, many: Layout) -> None:
    cache, random, asked = await loaded(connect, many), np.random.default_rng(1), 0
    for _ in range(30):
        items = random.integers(1, many.items + 1, 14).tolist()
        check(await cache.fetch(items, deadline()), many, items)
        check(await cache.fetch(items, deadline()), many, items)
        asked += len(set(items))
    found = looked_up(cache)
    assert found.keys() == {"local", "redis"}
    assert found["local"] + found["redis"] == 2 * asked
    assert found["redis"] <= asked


async def test_one_row_and_the_table_are_what_was_fetched(connect: Connect, many: Layout) -> None:
    found = await (await loaded(connect, many)).fetch(ITEMS, deadline())
    items = np.array(ITEMS)
    assert sorted(zip(*found.table().gather(items), strict=True)) == sorted(
        zip(*many._index.gather(items), strict=True)
    )
    assert found.rows[8].flat.tolist() == many.rows(8).flat.tolist()


async def test_an_item_that_the_index_does_not_know_has_no_transitions(connect: Connect, many: Layout) -> None:
    found = await (await loaded(connect, many)).fetch([many.items + 1], deadline())
    assert not counts_of(found.rows.items())


async def test_look_ups_at_the_same_time_share_one_round_trip(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache, random = await loaded(connect, many), np.random.default_rng(2)
    batch = [random.integers(1, many.items + 1, 14).tolist() for _ in range(16)]
    before = await calls(redis_client, "mget")
    answers = await asyncio.gather(*(cache.fetch(items, deadline()) for items in batch))
    assert await calls(redis_client, "mget") == before + 1
    for items, found in zip(batch, answers, strict=True):
        check(found, many, items)
    await asyncio.gather(*(cache.fetch(items, deadline()) for items in batch))
    assert await calls(redis_client, "mget") == before + 1  # now all are in process


async def test_more_look_ups_than_a_round_trip_holds_gather_in_a_few(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache = await loaded(connect, many)
    answers = await asyncio.gather(*(cache.fetch([item], deadline()) for item in range(1, 201)))
    assert READS_AT_ONCE < await calls(redis_client, "mget") <= 16
    for item, found in enumerate(answers, start=1):
        check(found, many, [item])


async def test_the_items_used_last_stay_in_process(connect: Connect, redis_client: Redis, many: Layout) -> None:
    cache = await loaded(connect, many, lru_items=3)
    for item in (1, 2, 3, 1, 4):  # 2 is now the one not used for longest
        await cache.fetch([item], deadline())
    reads = await calls(redis_client, "mget")
    for item in (3, 1, 4):
        check(await cache.fetch([item], deadline()), many, [item])
    assert await calls(redis_client, "mget") == reads
    check(await cache.fetch([2], deadline()), many, [2])
    assert await calls(redis_client, "mget") == reads + 1
    assert len(cache._lru) == 3


async def test_rows_in_process_are_used_while_changes_are_known(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache = await loaded(connect, many)

    async def reads() -> int:
        before = await calls(redis_client, "mget")
        await cache.fetch(ITEMS, deadline())
        return await calls(redis_client, "mget") - before

    assert [await reads(), await reads()] == [1, 0]
    age(cache, ROUNDS * ROUND_S - 30)
    assert await reads() == 0
    await cache.follow()
    age(cache, ROUNDS * ROUND_S - 30)
    assert await reads() == 0
    age(cache, 31)
    assert [await reads(), await reads()] == [1, 1]
    await cache.follow()  # not of what was announced so long ago
    assert not cache._lru
    assert [await reads(), await reads()] == [1, 0]


async def test_rows_in_process_are_not_used_before_changes_are_followed(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache, before = cache_on(connect(), many), await calls(redis_client, "mget")
    for _ in range(3):
        await cache.fetch(ITEMS, deadline())
    assert await calls(redis_client, "mget") == before + 3
    await cache.follow()
    assert not cache._lru


async def test_a_look_up_of_what_is_in_process_does_not_wait(connect: Connect, many: Layout) -> None:
    cache = await loaded(connect, many)
    await cache.fetch(ITEMS, deadline())
    with pytest.raises(StopIteration) as done:
        cache.fetch([*ITEMS, ITEMS[0]], deadline()).send(None)
    check(done.value.value, many, ITEMS)


async def announce(client: Redis, layout: Layout, connect: Connect) -> None:
    await live_on(connect(), layout).add([([3], [7])])


async def trim(client: Redis, layout: Layout, connect: Connect) -> None:
    for _ in range(2):
        await announce(client, layout, connect)
    await client.xtrim(layout.changes, maxlen=1, approximate=False)


async def flush(client: Redis, layout: Layout, connect: Connect) -> None:
    await client.flushall()


async def go_back(client: Redis, layout: Layout, connect: Connect) -> None:
    await client.unlink(layout.changes)
    await client.xadd(layout.changes, {b"items": b""}, id="1-1")


async def replace(client: Redis, layout: Layout, connect: Connect) -> None:
    await client.unlink(layout.changes)
    await announce(client, layout, connect)


@pytest.mark.parametrize("loss", [trim, flush, go_back, replace])
async def test_everything_is_forgotten_when_announcements_are_lost(
    connect: Connect, redis_client: Redis, many: Layout, loss: Happening
) -> None:
    cache = await loaded(connect, many)
    for _ in range(2):
        await cache.keep_loaded()
        await cache.fetch(ITEMS, deadline())
        await announce(redis_client, many, connect)
        await cache.follow()
        assert cache._lru.keys() == set(ITEMS) - {3}
        await loss(redis_client, many, connect)
        await cache.follow()
        assert not cache._lru


async def test_everything_is_forgotten_when_redis_has_been_restarted(
    connect: Connect, redis: RedisServer, many: Layout
) -> None:
    cache = await loaded(connect, many)
    await cache.fetch(ITEMS, deadline())
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    until(lambda: redis.pid is None, "it is gone")
    with pytest.raises(StoreUnavailableError):
        await cache.follow()
    assert cache._lru.keys() == set(ITEMS)
    await redis.start()
    await cache.follow()
    assert not cache._lru


async def test_more_announcements_than_are_read_count_as_lost(
    connect: Connect, redis_client: Redis, many: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.index_changes.KEPT", 5)
    cache = await loaded(connect, many)
    for count, left in ((4, set(ITEMS) - {3}), (5, set())):
        await cache.fetch(ITEMS, deadline())
        for _ in range(count - 1):  # beside the entry that was read last
            await announce(redis_client, many, connect)
        await cache.follow()
        assert cache._lru.keys() == left


async def test_the_stream_of_announcements_is_bounded_and_expires(
    connect: Connect, redis_client: Redis, many: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.index_changes.KEPT", 150)
    changes = Changes(many, connect(), ROUND_S)
    for _ in range(400):
        await changes.announce([1, 2, 3])
    assert 150 <= await redis_client.xlen(many.changes) < 300
    assert LIVE_DAYS * 86_400 - 60 < await redis_client.ttl(many.changes) <= LIVE_DAYS * 86_400


async def test_without_room_in_process_every_look_up_goes_to_redis(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache = await loaded(connect, many, lru_items=0)
    for _ in range(3):
        check(await cache.fetch(ITEMS, deadline()), many, ITEMS)
    assert await calls(redis_client, "mget") == 3


async def evict(client: Redis, layout: Layout, items: Sequence[int]) -> None:
    await client.delete(*map(layout.row, items))


async def damage(client: Redis, layout: Layout, items: Sequence[int]) -> None:
    keys = [layout.row(item) for item in items]
    values = await client.mget(keys)
    damaged = [values[0][:-1], values[1] + b"\0" * 8, b"\xff" * len(values[2])]
    await client.mset(dict(zip(keys, damaged, strict=True)))


async def replace_by_another_type(client: Redis, layout: Layout, items: Sequence[int]) -> None:
    await evict(client, layout, items)
    for item in items:
        await client.rpush(layout.row(item), "no", "string")


@pytest.mark.parametrize("harm", [evict, damage, replace_by_another_type])
async def test_a_row_that_redis_lacks_comes_from_the_bundle_until_it_is_written_back(
    connect: Connect, redis_client: Redis, many: Layout, harm: Harm
) -> None:
    cache, lost = await loaded(connect, many), ITEMS[:3]
    await harm(redis_client, many, lost)
    for _ in range(2):  # such rows do not stay in process
        check(await cache.fetch(ITEMS, deadline()), many, ITEMS, degraded=True)
    check(await cache.fetch(ITEMS[3:], deadline()), many, ITEMS[3:])
    assert looked_up(cache) == {"redis": 3, "evicted": 6, "local": 6}

    written = await calls(redis_client, "set")
    await cache.keep_loaded()
    assert await calls(redis_client, "set") == written + 3
    assert all(decode_rows(value) for value in await redis_client.mget([many.row(item) for item in lost]))
    check(await cache.fetch(ITEMS, deadline()), many, ITEMS)


async def test_the_live_transitions_of_an_evicted_row_are_used(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    cache = await loaded(connect, many)
    await redis_client.append(many.live(3), encode_live("forward", 2, 7))
    await evict(redis_client, many, [3])
    found = await cache.fetch([3], deadline())
    assert found.degraded
    expected = counts_in_index(many._index, [3])
    expected["forward", 3, 2, 7] += 1
    assert counts_of(found.rows.items()) == expected


async def test_without_redis_the_bundles_copy_answers(connect: Connect, redis: RedisServer, many: Layout) -> None:
    cache, again = await loaded(connect, many), cache_on(connect(), many)
    check(await cache.fetch(ITEMS[:2], deadline()), many, ITEMS[:2])
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    until(lambda: redis.pid is None, "it is gone")
    for _ in range(5):
        check(await cache.fetch(ITEMS, deadline()), many, ITEMS, degraded=True)
    check(await cache.fetch(ITEMS[:2], deadline()), many, ITEMS[:2])  # these are in process still
    assert looked_up(cache) == {"redis": 2, "local": 12, "unavailable": 20}

    await redis.start()
    await again.keep_loaded()
    await asyncio.sleep(0.5)  # until the breaker lets a call try
    check(await cache.fetch(ITEMS, deadline()), many, ITEMS)


async def test_a_silent_redis_costs_no_more_than_its_deadline(
    connect: Connect, redis: RedisServer, many: Layout
) -> None:
    await loaded(connect, many)
    cache = cache_on(connect(FrailLink, 0.05), many)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        started = asyncio.get_running_loop().time()
        check(await cache.fetch(ITEMS, deadline()), many, ITEMS, degraded=True)
        assert asyncio.get_running_loop().time() - started < 1.0
    finally:
        os.kill(redis.pid, signal.SIGCONT)


async def test_a_look_up_whose_time_is_over_comes_from_the_bundle(connect: Connect, many: Layout) -> None:
    cache = await loaded(connect, many)
    check(await cache.fetch(ITEMS, asyncio.get_running_loop().time() - 1), many, ITEMS, degraded=True)


class HeldLink(FrailLink):
    """A link whose reads are done, and are held back until the test lets them go."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.read, self.go = asyncio.Event(), asyncio.Event()

    async def mget(self, operation: str, keys: Sequence[str]) -> dict[str, bytes | None]:
        values = await super().mget(operation, keys)
        self.read.set()
        await self.go.wait()
        return values


async def be_told(cache: TransitionCache) -> None:
    cache.forget([3])


async def hear_of_it(cache: TransitionCache) -> None:
    await cache._changes.announce([3])
    await cache.follow()


async def lose_track(cache: TransitionCache) -> None:
    age(cache, ROUNDS * ROUND_S)
    await cache.follow()


@pytest.mark.parametrize(("followed", "happens"), [(1, be_told), (1, hear_of_it), (1, lose_track), (0, lose_track)])
async def test_a_read_under_way_while_an_item_changes_is_not_kept(
    connect: Connect,
    redis_client: Redis,
    many: Layout,
    followed: int,
    happens: Callable[[TransitionCache], Awaitable[None]],
) -> None:
    link = connect(HeldLink)
    cache = cache_on(link, many)
    await cache.keep_loaded()
    for _ in range(followed):
        await cache.follow()
    old = asyncio.create_task(cache.fetch([3], deadline()))
    await link.read.wait()
    await redis_client.append(many.live(3), encode_live("forward", 2, 7))
    await happens(cache)
    link.go.set()
    check(await old, many, [3])
    found = await cache.fetch([3], deadline())
    assert counts_of(found.rows.items()).total() == counts_in_index(many._index, [3]).total() + 1
    assert 3 in cache._lru


async def test_a_version_is_read_beside_another(connect: Connect, redis_client: Redis, many: Layout) -> None:
    other = Layout("many@2-0123456789ab", many._index)
    old, new = await loaded(connect, many), await loaded(connect, other)
    assert await redis_client.dbsize() == 2 * (many.items + len((many.loaded, many.changes))) + len((ACTIVE,))
    await redis_client.append(many.live(3), encode_live("forward", 2, 7))
    check(await new.fetch([3], deadline()), many, [3])
    found = await old.fetch([3], deadline())
    assert counts_of(found.rows.items()).total() == counts_in_index(many._index, [3]).total() + 1
