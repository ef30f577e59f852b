"""The embedded Redis, the link to it, and the histories on top, with a real server."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from service.errors import StoreFullError, StoreUnavailableError
from service.metrics import Metrics
from service.redis_link import Command, RedisLink
from service.redis_nodes import Breaker, Nodes
from service.redis_server import RedisServer, find_binary
from service.user_histories import Appended, UserEvent, UserHistories
from tests.service.servers import alive, until


async def test_the_server_keeps_to_itself_and_within_its_memory(redis: RedisServer, redis_client: Redis) -> None:
    config = await redis_client.config_get("*")
    assert (config["save"], config["appendonly"], config["port"]) == ("", "no", "0")
    eviction = (config["maxmemory"], config["maxmemory-policy"], config["maxmemory-samples"])
    assert eviction == (str(16 << 20), "volatile-ttl", "64")
    folder = Path(redis.url.removeprefix("unix://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    pid = redis.pid
    assert pid is not None
    redis.stop()
    assert not alive(pid)
    assert not folder.exists()


async def test_a_server_that_was_killed_can_be_started_again(redis: RedisServer, redis_client: Redis) -> None:
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGKILL)
    until(lambda: redis.pid is None, "it is gone")
    await redis.start()
    assert await redis_client.ping()


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
        await link.call("ping", "key", lambda redis: redis.ping())
    await link.close()


async def test_more_calls_than_connections_all_succeed(link: RedisLink) -> None:
    answers = await asyncio.gather(*(link.call("ping", "key", lambda redis: redis.ping()) for _ in range(50)))
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
    await link.call("ping", "key", lambda client: client.ping(), 5.0)
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        for attempt in range(20):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="within 50 ms" if attempt < 3 else "left alone"):
                await link.call("ping", "key", lambda client: client.ping())
            assert attempt < 3 or time.monotonic() - started < 0.04
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    await asyncio.sleep(0.6)
    assert await link.call("ping", "key", lambda client: client.ping(), 5.0)
    await link.close()


async def test_a_busy_event_loop_is_no_fault_of_redis(redis: RedisServer) -> None:
    link = RedisLink(redis.url, 4, 0.005, Metrics())
    done = False

    async def hog() -> None:
        while not done:
            time.sleep(0.05)  # blocks the loop, ten times as long as the deadline
            await asyncio.sleep(0)

    hogging = asyncio.create_task(hog())
    answers = await asyncio.gather(*(link.call("ping", "key", lambda redis: redis.ping()) for _ in range(20)))
    done = True
    await hogging
    assert answers == [True] * 20
    await link.close()


async def test_a_connection_whose_call_was_given_up_is_not_used_again(redis: RedisServer) -> None:
    link = RedisLink(redis.url, 1, 0.05, Metrics())
    await link.call("set", "key", lambda client: client.set("key", "value"), 5.0)
    with pytest.raises(StoreUnavailableError, match="within 50 ms"):
        await link.call("sleep", "key", lambda client: client.blpop(["nothing"], 0.5))
    assert await link.call("get", "key", lambda client: client.get("key"), 5.0) == b"value"
    await link.close()


async def test_a_refusal_of_redis_does_not_open_the_breaker(link: RedisLink) -> None:
    for _ in range(10):
        with pytest.raises(StoreUnavailableError, match="unknown command"):
            await link.call("nonsense", "key", lambda client: client.execute_command("NONSENSE"))


@pytest.mark.parametrize(
    "write",
    [
        lambda client: client.set("key", "x" * 100),
        lambda client: client.eval("redis.call('SET', 'k', 'v')", 0),
        lambda client: client.pipeline(transaction=False).set("key", "x").execute(),
        lambda client: client.pipeline(transaction=False).eval("redis.call('SET', 'k', 'v')", 0).execute(),
    ],
)
async def test_a_full_redis_is_told_apart(link: RedisLink, redis_client: Redis, write: Command[Any]) -> None:
    await redis_client.config_set("maxmemory-policy", "noeviction")
    await redis_client.config_set("maxmemory", "1")
    with pytest.raises(StoreFullError, match="memory left for write"):
        await link.call("write", "key", write)


async def test_histories_are_bounded_expire_and_keep_their_order(link: RedisLink, redis_client: Redis) -> None:
    histories = UserHistories(link, length=3, days=2)
    assert await histories.read("ann") == []
    await histories.append([UserEvent(*pair) for pair in (("ann", "a"), ("bob", "x"), ("ann", "b c"), ("ann", "ü"))])
    gained = await histories.append([UserEvent("ann", "d"), UserEvent("bob", "y")])
    assert gained == [Appended(["a", "b c", "ü"], ["d"]), Appended(["x"], ["y"])]
    assert await histories.read("ann") == ["b c", "ü", "d"]
    assert await histories.read("bob") == ["x", "y"]
    assert await redis_client.llen("tandem:history:ann") == 3
    assert 2 * 86_400 - 60 < await redis_client.ttl("tandem:history:ann") <= 2 * 86_400


async def test_a_repeated_event_has_no_effect_whoever_repeats_it(link: RedisLink) -> None:
    histories = UserHistories(link, length=100, days=2)
    calls = [[UserEvent("ann", f"item {n}", f"id-{n}") for n in (first, first + 1)] for first in range(20)]
    gained = await asyncio.gather(*(histories.append(events) for events in [*calls, *calls]))
    assert sorted(item for (history,) in gained for item in history.added) == sorted(f"item {n}" for n in range(21))
    assert len(await histories.read("ann")) == 21
    others = await histories.append(
        [UserEvent("bob", "item 0", "id-0"), UserEvent("bob", "item 0"), UserEvent("bob", "x")]
    )
    assert others == [Appended([], ["item 0", "item 0", "x"])]


async def test_a_cluster_that_nobody_answers_for_is_unavailable() -> None:
    link = RedisLink("redis+cluster://127.0.0.1:1,127.0.0.1:2", 4, 5.0, Metrics())
    with pytest.raises(StoreUnavailableError, match="none is known for slot"):
        await link.call("get", "key", lambda client: client.get("key"))
    with pytest.raises(StoreUnavailableError, match="some node of the Redis cluster must answer"):
        await link.refresh()
    assert not await link.answers()
    await link.close()


async def test_a_key_belongs_to_who_holds_its_slot() -> None:
    nodes = Nodes("redis+cluster://name:secret@a:1,[::1]:2", 4)
    assert [node.url for node in nodes.known] == ["redis://name:secret@a:1", "redis://name:secret@[::1]:2"]
    slots = [[100, 16_000, [b"b", 3, b"id"], [b"replica", 9, b"id"]], [16_001, 16_383, [b"", 4, b"id"]]]
    assert nodes.learn(slots, nodes.known[0]) == []
    for n in range(300):
        slot = key_slot(f"key-{n}".encode())
        if slot < 100:
            with pytest.raises(StoreUnavailableError, match=f"none is known for slot {slot}"):
                nodes.of(f"key-{n}")
        else:
            expected = "redis://name:secret@b:3" if slot <= 16_000 else "redis://name:secret@a:4"
            assert nodes.of(f"key-{n}").url == expected
    gone = nodes.learn([[0, 16_383, [b"b", 3, b"id"]]], nodes.known[0])
    assert [node.url for node in gone] == ["redis://name:secret@a:4"]
    assert [node.url for node in nodes.serving] == ["redis://name:secret@b:3"]
