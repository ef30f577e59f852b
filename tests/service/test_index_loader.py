"""The index in Redis: whole, loaded by one replica, renewed, and refused where there is no room."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import numpy as np
import pytest
from prometheus_client import generate_latest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from models.transitions import DIRECTIONS
from service import index_loader
from service.errors import StoreUnavailableError
from service.index_loader import RENEW_S, ROWS_S, IndexLoader
from service.index_rows import ACTIVE, Layout, decode_rows
from service.metrics import Metrics
from service.redis_link import RedisLink
from service.redis_server import RedisServer
from tests.service.redis_parts import counts_in_index, counts_of
from training.index_build import build_index


@pytest.fixture
async def links(redis: RedisServer) -> AsyncIterator[list[RedisLink]]:
    """The links of five replicas."""
    links = [RedisLink(redis.url, 4, 5.0, Metrics()) for _ in range(5)]
    yield links
    for link in links:
        await link.close()


def crowded(items: int = 4000, length: int = 30) -> Layout:
    """An index of a few MB."""
    random = np.random.default_rng(0)
    sequences = [random.integers(1, items + 1, length).astype(np.int32) for _ in range(items)]
    return Layout("crowded@1-0", build_index(sequences, items))


async def sets(client: Redis) -> int:
    """How many SET commands the server has run."""
    found = await client.info("commandstats")
    return int(found["cmdstat_set"]["calls"]) if "cmdstat_set" in found else 0


def events_of(logs: Iterable[dict]) -> list[str]:
    return [entry["event"] for entry in logs]


async def test_every_row_is_there_and_will_expire(layout: Layout, link: RedisLink, redis_client: Redis) -> None:
    loader = IndexLoader(layout, link, Metrics())
    await loader.keep_loaded()
    assert loader.loaded
    items = range(1, layout.items + 1)
    values = await redis_client.mget([layout.row(item) for item in items])
    rows = [(item, rows) for item, value in zip(items, values, strict=True) if (rows := decode_rows(value))]
    assert len(rows) == layout.items
    assert counts_of(rows) == counts_in_index(layout._index, items)
    assert {direction for direction, *_ in counts_of(rows)} == set(DIRECTIONS)
    assert RENEW_S < await redis_client.ttl(layout.row(1)) <= ROWS_S
    assert 0 < await redis_client.ttl(layout.loaded) <= RENEW_S
    assert await redis_client.get(ACTIVE) == layout.version.encode()
    assert await redis_client.exists(layout.lock) == 0


async def test_of_replicas_that_start_together_one_loads(
    layout: Layout, links: list[RedisLink], redis_client: Redis
) -> None:
    loaders = [IndexLoader(layout, link, Metrics()) for link in links]
    before = await sets(redis_client)
    await asyncio.gather(*(loader.keep_loaded() for loader in loaders))
    # The rows, `loaded` and `active` by one; an attempt at the lock by each that did not find the index.
    assert await sets(redis_client) - before <= layout.items + 2 + len(loaders)
    await asyncio.gather(*(loader.keep_loaded() for loader in loaders))
    assert all(loader.loaded for loader in loaders)
    assert await sets(redis_client) - before <= layout.items + 2 + len(loaders)


async def test_the_lock_of_a_dead_replica_holds_others_up_only_until_it_expires(
    layout: Layout, link: RedisLink, redis_client: Redis
) -> None:
    loader = IndexLoader(layout, link, Metrics())
    await redis_client.set(layout.lock, "another", px=150)
    await loader.keep_loaded()
    assert not loader.loaded
    assert await redis_client.exists(layout.row(1)) == 0
    await asyncio.sleep(0.2)
    await loader.keep_loaded()
    assert loader.loaded


async def test_a_load_that_broke_off_is_done_again(layout: Layout, redis: RedisServer, link: RedisLink) -> None:
    loader = IndexLoader(layout, link, Metrics())
    redis._end()
    with pytest.raises(StoreUnavailableError):
        await loader.keep_loaded()
    assert not loader.loaded
    await redis.start()
    await asyncio.sleep(0.6)  # the breaker
    await loader.keep_loaded()
    assert loader.loaded


async def test_rows_are_written_anew_before_they_expire(layout: Layout, link: RedisLink, redis_client: Redis) -> None:
    loader = IndexLoader(layout, link, Metrics())
    await loader.keep_loaded()
    await redis_client.expire(layout.row(1), 100)
    await loader.keep_loaded()
    assert await redis_client.ttl(layout.row(1)) <= 100
    await redis_client.delete(layout.loaded)  # as if RENEW_S had passed
    await loader.keep_loaded()
    assert await redis_client.ttl(layout.row(1)) > 100


async def test_a_new_version_is_loaded_beside_the_old_one(layout: Layout, link: RedisLink, redis_client: Redis) -> None:
    await IndexLoader(layout, link, Metrics()).keep_loaded()
    newer = Layout("tiny@2-0", layout._index)
    await redis_client.set(newer.lock, "another")
    await IndexLoader(newer, link, Metrics()).keep_loaded()
    assert await redis_client.get(ACTIVE) == layout.version.encode()  # not before every row of the new one is there
    await redis_client.delete(newer.lock)
    await IndexLoader(newer, link, Metrics()).keep_loaded()
    assert await redis_client.get(ACTIVE) == newer.version.encode()
    assert await redis_client.exists(layout.row(1), newer.row(1)) == 2


async def test_an_index_without_room_is_refused_and_leaves_histories_alone(
    link: RedisLink, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = crowded()
    await redis_client.config_set("maxmemory", "3mb")
    await redis_client.set("tandem:history:u", "kept", ex=1_000_000)
    loader = IndexLoader(layout, link, Metrics())
    with capture_logs() as logs:
        await loader.keep_loaded()
        await loader.keep_loaded()
    assert not loader.loaded
    assert events_of(logs) == ["transition index does not fit into Redis: the bundle's copy answers"]
    assert "must find" in logs[0]["reason"]
    assert "Raise maxmemory, or TANDEM_REDIS_MAX_MEMORY_MB" in logs[0]["reason"]
    assert await redis_client.get("tandem:history:u") == b"kept"
    assert await redis_client.exists(layout.row(1)) == 0
    await redis_client.config_set("maxmemory", "100mb")
    monkeypatch.setattr(index_loader, "RETRY_S", 0.0)
    loader._retry_at = 0.0  # as if RETRY_S had passed
    await loader.keep_loaded()
    assert loader.loaded


async def test_what_the_index_costs_is_reported(link: RedisLink, redis_client: Redis) -> None:
    layout, metrics = crowded(items=600), Metrics()
    before = (await redis_client.info("memory"))["used_memory"]
    with capture_logs() as logs:
        await IndexLoader(layout, link, metrics).keep_loaded()
    grown = (await redis_client.info("memory"))["used_memory"] - before
    assert events_of(logs) == ["transition index loaded", "transition index in Redis"]
    text = generate_latest(metrics.registry).decode()
    values = {
        name: float(line.split()[-1])
        for line in text.splitlines()
        for name in ("tandem_index_bytes", "tandem_index_item_bytes")
        if line.startswith(f"{name} ")
    }
    assert values["tandem_index_bytes"] == pytest.approx(values["tandem_index_item_bytes"] * layout.items)
    assert layout.bytes < values["tandem_index_bytes"] < 1.5 * layout.bytes
    assert values["tandem_index_bytes"] == pytest.approx(grown, rel=0.25)
