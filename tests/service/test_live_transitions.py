"""Transitions that events add: counted as by brute force, seen by every replica, bounded, and explained."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest
from redis.asyncio import Redis

from models.bundle import Bundle
from service import live_transitions
from service.index_rows import Layout, decode_live
from service.live_events import LiveEvents
from service.live_transitions import LOG_DAYS, LiveTransitions
from service.metrics import Metrics
from service.redis_link import RedisLink
from service.redis_server import RedisServer
from service.transition_cache import TransitionCache
from service.user_histories import UserEvent, UserHistories
from tests.service.redis_parts import Counts, counts_in_index, counts_in_sequence, counts_of, deadline
from tests.service.servers import Served

ITEMS = range(1, 61)


def cache_of(layout: Layout, link: RedisLink, fresh_s: float = 60.0) -> TransitionCache:
    return TransitionCache(layout, link, Metrics(), lru_items=1000, fresh_s=fresh_s)


@pytest.fixture
async def cache(layout: Layout, link: RedisLink) -> TransitionCache:
    found = cache_of(layout, link)
    await found.keep_loaded()
    return found


@pytest.fixture
async def events(bundle: Bundle, layout: Layout, link: RedisLink, cache: TransitionCache) -> LiveEvents:
    return LiveEvents(bundle.catalogue, UserHistories(link, 100, 30), LiveTransitions(layout, link), cache)


@pytest.fixture
async def another(layout: Layout, redis: RedisServer) -> AsyncIterator[TransitionCache]:
    """The cache of another replica, whose rows may be a quarter of a second old."""
    link = RedisLink(redis.url, 4, 5.0, Metrics())
    yield cache_of(layout, link, fresh_s=0.25)
    await link.close()


async def counts(cache: TransitionCache) -> Counts:
    found = await cache.fetch(ITEMS, deadline())
    assert not found.degraded
    return counts_of(found.rows.items())


def events_of(user: str, *items: int | str) -> list[UserEvent]:
    return [UserEvent(user, f"T{item - 1:03d}" if isinstance(item, int) else item) for item in items]


def brute_force(bundle: Bundle, *sequences: Sequence[int | None]) -> Counts:
    base = counts_in_index(bundle.transitions, ITEMS)
    return sum((counts_in_sequence(sequence) for sequence in sequences), base)


async def test_events_of_several_users_and_calls_count_as_their_sequences(
    bundle: Bundle, events: LiveEvents, cache: TransitionCache
) -> None:
    assert await counts(cache) == brute_force(bundle)
    one, two = events_of("one", 1, 2, 3, 1, 7, 7), events_of("two", 60, "gone", 2, 3)
    await events.store([one[0], two[0], one[1], two[1]])
    assert await counts(cache) == brute_force(bundle, [1, 2], [60, None])
    stored = await events.store([*two[2:], *one[2:]])
    assert (stored.new, stored.indexed) == (6, True)
    # At once, although the rows that were read before are young; an unknown item keeps its place in the sequence.
    assert await counts(cache) == brute_force(bundle, [1, 2, 3, 1, 7, 7], [60, None, 2, 3])


async def test_a_repeated_event_adds_nothing(bundle: Bundle, events: LiveEvents, cache: TransitionCache) -> None:
    first, second = UserEvent("u", "T000", "a"), UserEvent("u", "T001", "b")
    await events.store([first, second])
    assert (await events.store([first, second])).new == 0
    assert await counts(cache) == brute_force(bundle, [1, 2])


async def test_another_replica_sees_them_when_its_rows_are_no_longer_fresh(
    bundle: Bundle, events: LiveEvents, another: TransitionCache
) -> None:
    await another.keep_loaded()
    assert await counts(another) == brute_force(bundle)
    await events.store(events_of("u", 5, 6))
    assert await counts(another) == brute_force(bundle)
    await asyncio.sleep(0.3)
    assert await counts(another) == brute_force(bundle, [5, 6])


async def test_a_log_keeps_its_latest_transitions_and_is_forgotten_in_the_end(
    layout: Layout, link: RedisLink, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_transitions, "LOG_BYTES", 4 * 10)
    transitions = LiveTransitions(layout, link)
    for neighbour in range(2, 42):
        await transitions.add([([1], [neighbour])])
    key = layout.live(1)
    kept = counts_of([(1, decode_live(await redis_client.get(key)))])
    assert kept == {("forward", 1, 1, neighbour): 1 for neighbour in range(32, 42)}
    assert 0 < await redis_client.ttl(key) <= LOG_DAYS * 86_400


async def test_two_writers_lose_nothing(
    bundle: Bundle, layout: Layout, link: RedisLink, cache: TransitionCache
) -> None:
    writers = [LiveTransitions(layout, link) for _ in range(2)]
    await asyncio.gather(*(writer.add([([1], [2])]) for writer in writers for _ in range(50)))
    assert await counts(cache) == brute_force(bundle, *[[1, 2]] * 100)


def test_an_answer_is_explained_by_what_has_just_happened(server: Served, adaptive: Bundle) -> None:
    last = ITEMS[0]
    seen = set(adaptive.transitions.row("forward", last).neighbours[0].tolist())
    new = next(item for item in ITEMS if item not in seen | {last})
    catalogue, client = adaptive.catalogue, server.client
    request = {
        "history": [catalogue.item_id(last)],
        "filters": {"include_item_ids": [catalogue.item_id(new)]},
        "variant": "ensemble_tiger",
        "k": 1,
    }
    assert categories(client, request) != ["memorization"]
    events = [{"user_id": "live", "item_id": catalogue.item_id(item)} for item in (last, new)]
    assert client.post("/v1/events", json={"events": events}).status_code == 200
    assert categories(client, request) == ["memorization"]


def categories(client: httpx2.Client, request: dict) -> list[str]:
    response = client.post("/v1/recommend", json=request)
    assert response.status_code == 200, response.text
    return [item["category"] for item in response.json()["items"]]
