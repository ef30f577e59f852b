"""Transitions that events add: as a count over all pairs of places says, bounded, and seen by every replica."""

import asyncio
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from redis.asyncio import Redis

from models.catalogue import Catalogue
from models.transitions import DIRECTIONS
from service.errors import StoreUnavailableError
from service.index_changes import LIVE_DAYS
from service.index_rows import Layout
from service.live_events import LiveEvents, Stored
from service.live_transitions import LOG_BYTES, LiveTransitions, logs
from service.transition_cache import TransitionCache
from service.user_histories import UserEvent, UserHistories
from tests.service.redis_parts import (
    Connect,
    Counts,
    FrailLink,
    cache_on,
    counts_in_index,
    counts_in_sequence,
    counts_of,
    deadline,
    live_on,
)
from tests.service.servers import ready, until
from tests.service.test_recommend import ITEM_IDS, ask

UNKNOWN = "unheard-of"


@pytest.fixture(scope="module")
def catalogue(many: Layout) -> Catalogue:
    names = [f"M{item}" for item in range(1, many.items + 1)]
    return Catalogue(names, np.zeros((many.items + 1, 3), dtype=np.int64), pa.table({"title": names}))


class Replica:
    """What one service does with events and rows."""

    def __init__(self, link: FrailLink, layout: Layout, catalogue: Catalogue) -> None:
        self.link = link
        self.cache: TransitionCache = cache_on(link, layout)
        transitions = LiveTransitions(layout, link, self.cache._changes)
        self.events = LiveEvents(catalogue, UserHistories(link, 200, 90), transitions, self.cache)

    async def counts(self, items: range) -> Counts:
        return counts_of((await self.cache.fetch(items, deadline())).rows.items())


async def pair(connect: Connect, layout: Layout, catalogue: Catalogue) -> tuple[Replica, Replica]:
    """Two replicas on one Redis that have begun to follow."""
    replicas = Replica(connect(), layout, catalogue), Replica(connect(), layout, catalogue)
    await replicas[0].cache.keep_loaded()
    for replica in replicas:
        await replica.cache.follow()
    return replicas


def event(user: int, item: int | None, event_id: str = "") -> UserEvent:
    return UserEvent(f"user-{user}", UNKNOWN if item is None else f"M{item}", event_id)


async def test_events_of_many_users_count_like_all_pairs_of_their_sequences(
    connect: Connect, many: Layout, catalogue: Catalogue
) -> None:
    replicas = [Replica(connect(), many, catalogue) for _ in range(2)]
    await replicas[0].cache.keep_loaded()
    items, random = range(1, 13), np.random.default_rng(4)
    base = counts_in_index(many._index, items)
    assert await replicas[0].counts(items) == base
    sequences: defaultdict[int, list[int | None]] = defaultdict(list)
    for turn in range(40):  # calls of 1 to 9 events, so that histories cross calls, by either replica
        call = []
        for _ in range(random.integers(1, 10)):
            user, item = int(random.integers(5)), int(random.integers(13)) or None
            sequences[user].append(item)
            call.append(event(user, item))
        assert await replicas[turn % 2].events.store(call) == Stored(len(call), indexed=True)
    expected = sum((counts_in_sequence(sequence) for sequence in sequences.values()), base)
    assert expected.total() > base.total() + 500
    assert await Replica(connect(), many, catalogue).counts(items) == expected


async def test_a_writer_sees_its_events_at_once_and_the_others_with_their_next_round(
    connect: Connect, many: Layout, catalogue: Catalogue
) -> None:
    writer, other = await pair(connect, many, catalogue)
    items = range(1, 5)
    base = await writer.counts(items)
    assert await other.counts(items) == base
    await writer.events.store([event(1, 1), event(1, 2), event(1, 3)])
    expected = base + counts_in_sequence([1, 2, 3])
    assert await writer.counts(items) == expected
    assert await other.counts(items) == base
    await other.cache.follow()
    assert other.cache._lru.keys() == {4}
    assert await other.counts(items) == expected


async def test_an_announcement_that_failed_is_made_up_for(
    connect: Connect, redis_client: Redis, many: Layout, catalogue: Catalogue
) -> None:
    writer, other = await pair(connect, many, catalogue)
    items = range(1, 4)
    base = await other.counts(items)
    writer.link.calls_left = 2  # for the history and for the logs
    assert await writer.events.store([event(1, 1), event(1, 2)]) == Stored(2, indexed=False)
    assert await redis_client.exists(many.live(1), many.live(2)) == 2
    await other.cache.follow()
    assert await other.counts(items) == base
    with pytest.raises(StoreUnavailableError):
        await writer.cache.follow()
    writer.link.calls_left = math.inf
    await writer.cache.follow()
    await other.cache.follow()
    expected = base + counts_in_sequence([1, 2])
    assert await writer.counts(items) == await other.counts(items) == expected


async def test_what_was_added_before_the_rest_failed_is_announced(
    connect: Connect, redis_client: Redis, many: Layout, catalogue: Catalogue
) -> None:
    writer, other = await pair(connect, many, catalogue)
    base = await other.counts(range(1, 2))
    await redis_client.rpush(many.live(2), "a list cannot be appended to")
    announced = await redis_client.xlen(many.changes)
    assert await writer.events.store([event(1, 1), event(1, 2)]) == Stored(2, indexed=False)
    assert await redis_client.xlen(many.changes) == announced
    await writer.events.store([event(2, 3), event(2, 4)])  # whatever is announced next
    await other.cache.follow()
    assert await other.counts(range(1, 2)) == base + Counts({("forward", 1, 1, 2): 1})


async def test_a_repeated_event_adds_no_transition(connect: Connect, many: Layout, catalogue: Catalogue) -> None:
    replica, items = Replica(connect(), many, catalogue), range(1, 4)
    await replica.cache.keep_loaded()
    call = [event(1, item, f"id-{item}") for item in items]
    stored = await asyncio.gather(*(replica.events.store(call) for _ in range(5)))
    assert sum(part.new for part in stored) == 3
    assert await replica.counts(items) == counts_in_index(many._index, items) + counts_in_sequence([*items])


async def test_a_log_keeps_its_latest_transitions_and_expires(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    live, random = live_on(connect(), many), np.random.default_rng(6)
    whole: defaultdict[int, bytes] = defaultdict(bytes)
    for _ in range(6):
        history = random.integers(1, 3, 300).tolist()
        assert sorted(await live.add([([], history)])) == [1, 2]
        for item, gain in logs([([], history)]).items():
            whole[item] += gain
    for item in (1, 2):
        assert len(whole[item]) == pytest.approx(6 * 300 * 4 * 4, rel=0.1)  # 4 neighbours a side, 4 bytes
        assert await redis_client.get(many.live(item)) == whole[item][-LOG_BYTES:]
        assert LIVE_DAYS * 86_400 - 60 < await redis_client.ttl(many.live(item)) <= LIVE_DAYS * 86_400


async def test_one_gain_that_is_longer_than_a_log_is_cut_too(
    connect: Connect, redis_client: Redis, many: Layout
) -> None:
    history = [1, 2] * 1000
    await live_on(connect(), many).add([([], history)])
    assert await redis_client.get(many.live(1)) == logs([([], history)])[1][-LOG_BYTES:]


def test_what_came_before_gains_transitions_only_to_what_is_new() -> None:
    assert logs([([1, 2, 3], [])]) == {}
    found = {item: len(gain) // 4 for item, gain in logs([([9, 1, None, 3], [4])]).items()}
    assert found == {9: 1, 1: 1, 3: 1, 4: 3}


async def test_histories_are_stored_even_when_the_index_cannot_be(
    connect: Connect, redis_client: Redis, many: Layout, catalogue: Catalogue
) -> None:
    replica = Replica(connect(), many, catalogue)
    await redis_client.rpush(many.live(2), "a list cannot be appended to")
    assert await replica.events.store([event(1, 1), event(1, 2)]) == Stored(2, indexed=False)
    assert await redis_client.llen("tandem:history:user-1") == 2


def test_an_answer_explains_items_by_transitions_that_only_events_have(bundle_path: Path) -> None:
    last, request = ITEM_IDS[11], {"history": [ITEM_IDS[11]], "k": 60, "variant": "ensemble_tiger"}
    with (
        ready(bundle_path) as (runtime, client),
        ready(bundle_path, redis_url=runtime._redis.url, index_cache_seconds=0.1) as (_, other),
    ):
        before = ask(client, **request)["items"]
        assert ask(other, **request)["items"] == before
        fresh = next(item["item_id"] for item in before if item["category"] != "memorization")
        events = [{"user_id": f"live-{n}", "item_id": item_id} for n in range(3) for item_id in (last, fresh)]
        stored = client.post("/v1/events", json={"events": events}).json()
        assert (stored["accepted"], stored["degraded"]) == (6, [])
        answer = ask(client, **request)
        until(lambda: ask(other, **request)["items"] == answer["items"], "the other replica has heard of it")
    assert answer["degraded"] == []
    after = next(item for item in answer["items"] if item["item_id"] == fresh)
    expected = {"category": "memorization", "hop": 1, "support": 3, "via": last, "through": None}
    assert after["category"] == "memorization"
    assert after["explanation"].items() >= expected.items()


def test_a_count_over_all_pairs_sees_each_transition_from_both_sides() -> None:
    found = counts_in_sequence([1, 2, None, 1])
    assert {direction: [key for key in found if key[0] == direction] for direction in DIRECTIONS} == {
        "forward": [("forward", 1, 1, 2), ("forward", 1, 3, 1), ("forward", 2, 2, 1)],
        "backward": [("backward", 2, 1, 1), ("backward", 1, 3, 1), ("backward", 1, 2, 2)],
    }
