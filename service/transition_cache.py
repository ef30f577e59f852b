"""The transition index behind three doors: an LRU in process, Redis, and the bundle's own copy.

Redis is a cache, never a single point of failure: whatever it does not deliver in time comes from the bundle, and the
answer says so. What it delivers includes the transitions that events have added since training (`live_transitions`).
"""

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from models.transitions import Rows, RowTable
from service.batcher import Batcher, Slots
from service.errors import DeadlineError, StoreUnavailableError
from service.index_changes import Changes
from service.index_loader import IndexLoader
from service.index_rows import Layout, decode_live, decode_rows
from service.metrics import Metrics
from service.redis_link import RedisLink

READS_AT_ONCE = 4  # reads under way; while all are, further look-ups gather into the next one
LOOK_UPS_A_READ = 16
WARMED_AT_ONCE = 64  # items
WARMING_DEADLINE_S = 1.0


@dataclass(frozen=True)
class Fetched:
    """Rows by item, and whether the bundle's copy had to stand in for Redis."""

    rows: Mapping[int, Rows]
    degraded: bool

    def __or__(self, other: "Fetched") -> "Fetched":
        return Fetched({**self.rows, **other.rows}, self.degraded or other.degraded)

    def table(self) -> RowTable:
        """The rows as `models.categories` reads them."""
        return RowTable(self.rows)


class Found(NamedTuple):
    """The rows of an item, and what is to be known about them."""

    rows: Rows
    evicted: bool
    """Redis had the live transitions alone."""


class TransitionCache:
    """Reads the rows of one index, and keeps them loaded.

    A row stays in process until its item is announced as changed (`Changes`), or others push it out. It is used while
    the announcements are known: without Redis for ROUNDS rounds at most.
    """

    def __init__(self, layout: Layout, link: RedisLink, metrics: Metrics, lru_items: int, changes: Changes) -> None:
        self._layout = layout
        self._link = link
        self._loader = IndexLoader(layout, link, metrics)
        self._lru: OrderedDict[int, Rows] = OrderedDict()
        self._lru_items = lru_items
        self._changes = changes
        self._writes = 0
        self._reads: Batcher[Sequence[int], Mapping[int, Found]] = Batcher(
            "transition_index", self._read, Slots(READS_AT_ONCE), metrics, LOOK_UPS_A_READ
        )
        self._local, self._redis, self._evicted, self._unavailable = (
            metrics.cache.labels(result) for result in ("local", "redis", "evicted", "unavailable")
        )

    @property
    def loaded(self) -> bool:
        """Whether Redis held the whole index at the last upkeep."""
        return self._loader.loaded

    async def keep_loaded(self) -> None:
        """One round of upkeep; see `IndexLoader.keep_loaded`."""
        await self._loader.keep_loaded()

    async def follow(self) -> None:
        """One round of following what replicas announce: forget what has changed, and everything if that is unknown.

        Raises:
            StoreUnavailableError: see `Changes.follow`.
        """
        changed = await self._changes.follow()
        if changed is None:
            self._writes += 1
            self._lru.clear()
        elif changed:
            self.forget(changed)

    async def warm(self, items: Sequence[int]) -> None:
        """Read the rows of items, the likeliest first, into the process before anyone asks: as many as it keeps."""
        await self.follow()
        for begin in range(0, min(len(items), self._lru_items), WARMED_AT_ONCE):
            await self._fetch(items[begin : begin + WARMED_AT_ONCE], time.monotonic() + WARMING_DEADLINE_S)

    async def fetch(self, items: Iterable[int], deadline: float) -> Fetched:
        """The rows of some items; `deadline` is the request's, on the clock of `time.monotonic`."""
        kept: Mapping[int, Rows] = self._lru if self._changes.known else {}
        rows: dict[int, Rows] = {}
        missing: set[int] = set()
        for item in items:
            if (row := kept.get(item)) is None:
                missing.add(item)
            else:
                rows[item] = row
                self._lru.move_to_end(item)  # now the one used last
        self._local.inc(len(rows))
        here = Fetched(rows, degraded=False)
        return here | await self._fetch(sorted(missing), deadline) if missing else here

    def forget(self, items: Iterable[int]) -> None:
        """Read some items anew when they are asked for next: their live transitions have changed."""
        self._writes += 1
        for item in items:
            self._lru.pop(item, None)

    async def _fetch(self, items: Sequence[int], deadline: float) -> Fetched:
        """The rows of items that are not in process."""
        found: Mapping[int, Found] = {}
        with suppress(StoreUnavailableError, DeadlineError):  # the bundle's copy answers for what is absent
            found = (await self._reads.submit(items, deadline)).answer
        absent = [item for item in items if item not in found]
        evicted = sum(entry.evicted for entry in found.values())
        self._unavailable.inc(len(absent))
        self._evicted.inc(evicted)
        self._redis.inc(len(found) - evicted)
        rows = {item: entry.rows for item, entry in found.items()} | {item: self._layout.rows(item) for item in absent}
        return Fetched(rows, degraded=bool(absent or evicted))

    async def _read(self, batch: list[Sequence[int]]) -> list[Mapping[int, Found]]:
        """Answer several look-ups with one round trip."""
        writes = self._writes
        items = sorted({item for wanted in batch for item in wanted})
        keys = [key for item in items for key in (self._layout.row(item), self._layout.live(item))]
        values = await self._link.mget("mget", keys)
        found = {item: entry for item in items if (entry := self._found(item, values))}
        self._loader.replace([item for item, entry in found.items() if entry.evicted])
        if writes == self._writes:  # else the values may be older than what `forget` was told of
            self._remember(found)
        return [{item: found[item] for item in wanted if item in found} for wanted in batch]

    def _found(self, item: int, values: Mapping[str, bytes | None]) -> Found | None:
        """The rows that the values of an item make, if its node answered."""
        row, live = self._layout.row(item), self._layout.live(item)
        if row not in values:
            return None
        loaded, gained = decode_rows(values[row]), values[live]
        rows = loaded or self._layout.rows(item)
        return Found(rows | decode_live(gained) if gained else rows, evicted=loaded is None)

    def _remember(self, found: Mapping[int, Found]) -> None:
        self._lru.update({item: entry.rows for item, entry in found.items() if not entry.evicted})
        while len(self._lru) > self._lru_items:
            self._lru.popitem(last=False)
