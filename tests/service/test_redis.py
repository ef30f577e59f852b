"""The embedded Redis, the link to it, and the two stores on top, with a real server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from models.bundle import Bundle
from models.transitions import RowTable, TransitionIndex
from service.errors import StoreUnavailableError
from service.metrics import Metrics
from service.redis_link import Breaker, RedisLink
from service.redis_server import RedisServer, find_binary
from service.transition_cache import ACTIVE, Fetched, TransitionCache
from service.user_histories import UserHistories
from tests.service.servers import alive, until

ITEMS = (1, 7, 60)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    server = RedisServer(16)
    await server.start()
    yield server
    server.stop()


@pytest.fixture
async def link(redis: RedisServer) -> AsyncIterator[RedisLink]:
    link = RedisLink(redis.url, 4, 5.0, Metrics())
    yield link
    await link.close()


@pytest.fixture
async def client(redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis.url)
    yield client
    await client.aclose()


def deadline() -> float:
    return time.monotonic() + 30


def same(fetched: Fetched, index: TransitionIndex) -> None:
    """Assert that every row is the one of the index."""
    for item, rows in fetched.rows.items():
        for row, direction in zip(rows, ("forward", "backward"), strict=True):
            expected = index.row(direction, item)  # type: ignore[arg-type]
            assert [values.tolist() for values in (*row.neighbours, *row.counts)] == [
                values.tolist() for values in (*expected.neighbours, *expected.counts)
            ]


async def test_the_server_keeps_to_itself_and_within_its_memory(redis: RedisServer, client: Redis) -> None:
    config = await client.config_get("*")
    assert (config["save"], config["appendonly"], config["port"]) == ("", "no", "0")
    assert (config["maxmemory"], config["maxmemory-policy"]) == (str(16 << 20), "allkeys-lru")
    folder = Path(redis.url.removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    pid = redis.pid
    assert pid is not None
    redis.stop()
    assert not alive(pid)
    assert not folder.exists()


async def test_a_server_that_was_killed_can_be_started_again(redis: RedisServer, client: Redis) -> None:
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    until(lambda: redis.pid is None, "it is gone")
    await redis.start()
    assert await client.ping()


async def test_a_binary_that_is_no_server_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_binary() == fake
    server = RedisServer(16)
    with pytest.raises(StoreUnavailableError, match="got exit status 3"):
        await server.start()
    server.stop()


async def test_without_a_url_every_call_fails_at_once() -> None:
    link = RedisLink(None, 4, 5.0, Metrics())
    with pytest.raises(StoreUnavailableError, match="there is no Redis"):
        await link.call("ping", lambda redis: redis.ping())
    await link.close()


async def test_more_calls_than_connections_all_succeed(link: RedisLink) -> None:
    answers = await asyncio.gather(*(link.call("ping", lambda redis: redis.ping()) for _ in range(50)))
    assert answers == [True] * 50


async def test_the_breaker_opens_after_failures_in_a_row_and_lets_one_call_probe() -> None:
    breaker = Breaker(failures=2, open_s=0.05)
    breaker.fail()
    breaker.succeed()
    breaker.fail()
    assert not breaker.open
    breaker.fail()
    assert breaker.open
    await asyncio.sleep(0.06)
    assert [breaker.open, breaker.open] == [False, True]  # one probe, the others go on without
    breaker.succeed()
    assert not breaker.open


async def test_a_silent_server_costs_the_deadline_three_times_and_then_nothing(redis: RedisServer) -> None:
    link = RedisLink(redis.url, 4, 0.05, Metrics())
    await link.call("ping", lambda client: client.ping(), 5.0)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        for attempt in range(20):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="within 50 ms" if attempt < 3 else "left alone"):
                await link.call("ping", lambda client: client.ping())
            assert attempt < 3 or time.monotonic() - started < 0.04
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    await asyncio.sleep(0.6)
    assert await link.call("ping", lambda client: client.ping(), 5.0)
    await link.close()


async def test_rows_from_redis_are_the_rows_of_the_bundle(bundle: Bundle, link: RedisLink, client: Redis) -> None:
    cache = TransitionCache(bundle, link, Metrics(), lru_items=0)
    await cache.keep_loaded()
    assert cache.loaded
    assert await client.get(ACTIVE) == cache.version.encode()
    keys = [key async for key in client.scan_iter(match="tandem:{tiny@1-*}:[fb]:*", count=1000)]
    assert len(keys) == 2 * bundle.manifest.items  # the empty rows too
    fetched = await cache.fetch(range(1, bundle.manifest.items + 1), deadline())
    assert not fetched.degraded
    assert len(fetched.rows) == bundle.manifest.items
    same(fetched, bundle.transitions)
    assert isinstance(fetched.table(), RowTable)


async def test_look_ups_of_many_requests_share_one_mget(bundle: Bundle, link: RedisLink, client: Redis) -> None:
    cache = TransitionCache(bundle, link, Metrics(), lru_items=0)
    await cache.keep_loaded()
    before = (await client.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"]
    fetched = await asyncio.gather(*(cache.fetch([item, item + 1], deadline()) for item in range(1, 31)))
    assert (await client.info("commandstats"))["cmdstat_mget"]["calls"] == before + 1
    for item, found in enumerate(fetched, start=1):
        assert set(found.rows) == {item, item + 1}
        same(found, bundle.transitions)


async def test_the_local_cache_is_bounded_and_answers_without_redis(bundle: Bundle, link: RedisLink) -> None:
    cache = TransitionCache(bundle, link, Metrics(), lru_items=3)
    await cache.keep_loaded()
    await cache.fetch([1, 2, 3], deadline())
    await cache.fetch([1], deadline())
    await cache.fetch([4], deadline())  # pushes out 2, which was used least recently
    await link.close()
    link._client = None
    assert not (await cache.fetch([1, 3, 4], deadline())).degraded
    assert (await cache.fetch([2], deadline())).degraded


async def test_an_evicted_row_comes_from_the_bundle_and_is_put_back(
    bundle: Bundle, link: RedisLink, client: Redis
) -> None:
    cache = TransitionCache(bundle, link, Metrics(), lru_items=0)
    await cache.keep_loaded()
    await client.delete(f"tandem:{{{cache.version}}}:f:7")
    await client.set(f"tandem:{{{cache.version}}}:b:60", b"damaged")
    fetched = await cache.fetch(ITEMS, deadline())
    assert fetched.degraded
    same(fetched, bundle.transitions)
    await cache.keep_loaded()
    healed = await cache.fetch(ITEMS, deadline())
    assert not healed.degraded
    same(healed, bundle.transitions)


async def test_a_flushed_redis_is_loaded_again(bundle: Bundle, link: RedisLink, client: Redis) -> None:
    cache = TransitionCache(bundle, link, Metrics(), lru_items=0)
    await cache.keep_loaded()
    await client.flushall()
    assert (await cache.fetch(ITEMS, deadline())).degraded
    await cache.keep_loaded()
    assert not (await cache.fetch(ITEMS, deadline())).degraded


async def test_one_replica_loads_while_the_others_wait(bundle: Bundle, link: RedisLink, client: Redis) -> None:
    replicas = [TransitionCache(bundle, link, Metrics(), lru_items=0) for _ in range(4)]
    await asyncio.gather(*(replica.keep_loaded() for replica in replicas))
    assert [replica.loaded for replica in replicas].count(True) >= 1
    assert (await client.info("commandstats"))["cmdstat_mset"]["calls"] == 1
    await asyncio.gather(*(replica.keep_loaded() for replica in replicas))
    assert all(replica.loaded for replica in replicas)
    assert not await client.exists(f"tandem:{{{replicas[0].version}}}:lock")


async def test_a_replica_resumes_a_load_of_its_own_but_not_that_of_another(
    bundle: Bundle, link: RedisLink, client: Redis
) -> None:
    mine, other = (TransitionCache(bundle, link, Metrics(), lru_items=0) for _ in range(2))
    await client.set(f"tandem:{{{mine.version}}}:lock", mine._token)
    await other.keep_loaded()
    assert not other.loaded
    await mine.keep_loaded()
    assert mine.loaded


async def test_histories_are_bounded_expire_and_keep_their_order(link: RedisLink, client: Redis) -> None:
    histories = UserHistories(link, length=3, days=2)
    assert await histories.read("ann") == []
    await histories.append([("ann", "a"), ("bob", "x"), ("ann", "b"), ("ann", "ü")])
    await histories.append([("ann", "d"), ("bob", "y")])
    assert await histories.read("ann") == ["b", "ü", "d"]
    assert await histories.read("bob") == ["x", "y"]
    assert await client.llen("tandem:history:ann") == 3
    assert 2 * 86_400 - 60 < await client.ttl("tandem:history:ann") <= 2 * 86_400
