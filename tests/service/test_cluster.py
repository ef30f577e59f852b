"""The service on a real Redis Cluster of three local nodes, whole and with one of them dead."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from models.bundle import Bundle
from service.index_rows import Layout
from service.metrics import Metrics
from service.redis_link import RedisLink
from service.transition_cache import TransitionCache
from service.user_histories import UserEvent, UserHistories
from tests.service.redis_parts import ClusterNode, cluster, counts_in_index, counts_of, deadline, url_of
from tests.service.servers import served, until

ITEMS = range(1, 61)
REDIS_62 = {
    *("append", "client", "cluster", "config", "dbsize", "eval", "exists", "expire", "get", "getrange", "hello"),
    *("info", "lpush", "lrange", "ltrim", "memory", "mget", "pexpire", "ping", "set", "ttl", "unlink"),
}
"""Commands that Redis 6.2 has. Before you add one, look up since when it exists."""


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[ClusterNode]]:
    with cluster(tmp_path) as nodes:
        yield nodes


def commands(node: ClusterNode) -> set[str]:
    """The commands that a node has been asked for."""
    return {name.removeprefix("cmdstat_").partition("|")[0] for name in node.client.info("commandstats")}


async def test_rows_lie_on_all_nodes_and_come_from_all(
    nodes: list[ClusterNode], bundle: Bundle, layout: Layout
) -> None:
    link = RedisLink(url_of(nodes), 4, 5.0, Metrics())
    try:
        cache = TransitionCache(layout, link, Metrics(), lru_items=0, fresh_s=60.0)
        await cache.keep_loaded()
        assert all(node.client.dbsize() > 1 for node in nodes)
        assert sum(node.client.dbsize() for node in nodes) == layout.items + 2  # and `loaded`, `active`
        found = await cache.fetch(ITEMS, deadline())
        assert not found.degraded
        assert counts_of(found.rows.items()) == counts_in_index(bundle.transitions, ITEMS)
        histories = UserHistories(link, 10, 1)
        events = [UserEvent(f"u{user}", f"T{item:03d}") for item in range(3) for user in range(9)]
        for group in histories.by_node(events):
            await histories.append(group)
        assert [await histories.read(f"u{user}") for user in range(9)] == [["T000", "T001", "T002"]] * 9

        nodes[0].stop()
        lost = await cache.fetch(ITEMS, deadline())
        assert lost.degraded
        assert counts_of(lost.rows.items()) == counts_in_index(bundle.transitions, ITEMS)  # the bundle's copy helps out
    finally:
        await link.close()


def answer(client: httpx2.Client) -> dict:
    response = client.post(
        "/v1/recommend", json={"history": ["T003", "T014", "T015"], "variant": "ensemble_tiger", "k": 10}
    )
    assert response.status_code == 200, response.text
    return response.json()


def test_the_service_answers_before_and_after_a_node_dies(nodes: list[ClusterNode], adaptive_path: Path) -> None:
    with served(adaptive_path, redis_url=url_of(nodes), index_cache_items=0) as server:
        whole = answer(server.client)
        assert whole["degraded"] == []
        events = [{"user_id": f"u{user}", "item_id": "T001", "event_id": "e"} for user in range(20)]
        assert server.client.post("/v1/events", json={"events": events}).status_code == 200
        assert server.client.get("/readyz").json()["redis"] == "ok"
        used = set().union(*map(commands, nodes))
        assert {"mget", "eval"} <= used
        assert used <= REDIS_62
        nodes[1].stop()
        lost = until(lambda: found if (found := answer(server.client))["degraded"] else None, "a node is missed")
        assert lost["degraded"] == ["transition_index"]
        assert [item["item_id"] for item in lost["items"]] == [item["item_id"] for item in whole["items"]]
        assert {
            server.client.post("/v1/recommend", json={"user_id": f"u{user}"}).status_code for user in range(20)
        } == {200}
