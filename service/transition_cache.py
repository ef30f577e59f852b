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
from service.index_loader import IndexLoader
from service.index_rows import Layout, decode_live, decode_rows
from service.metrics import Metrics
from service.redis_link import RedisLink

READS_AT_ONCE = 4  # reads under way; while all are, further look-ups gather into the next one
LOOK_UPS_A_READ = 16


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
    read_at: float  # on the clock of time.monotonic


class TransitionCache:
    """Reads the rows of one index, and keeps them loaded."""

    def __init__(self, layout: Layout, link: RedisLink, metrics: Metrics, lru_items: int, fresh_s: float) -> None:
        self._layout = layout
        self._link = link
        self._metrics = metrics
        self._loader = IndexLoader(layout, link, metrics)
        self._lru: OrderedDict[int, Found] = OrderedDict()
        self._lru_items = lru_items
        self._fresh_s = fresh_s
        self._writes = 0
        self._reads: Batcher[Sequence[int], Mapping[int, Found]] = Batcher(
            "transition_index", self._read, Slots(READS_AT_ONCE), metrics, LOOK_UPS_A_READ
        )

    @property
    def loaded(self) -> bool:
        """Whether Redis held the whole index at the last upkeep."""
        return self._loader.loaded

    async def keep_loaded(self) -> None:
        """One round of upkeep; see `IndexLoader.keep_loaded`."""
        await self._loader.keep_loaded()

    async def fetch(self, items: Iterable[int], deadline: float) -> Fetched:
        """The rows of some items; `deadline` is the request's, on the clock of `time.monotonic`."""
        wanted = set(items)
        found = {item: entry for item in wanted if (entry := self._local(item))}
        missing = sorted(wanted - found.keys())
        self._metrics.cache.labels("local").inc(len(found))
        if missing:
            with suppress(StoreUnavailableError, DeadlineError):  # the bundle's copy answers for what is absent
                found |= (await self._reads.submit(missing, deadline)).answer
        absent = wanted - found.keys()
        evicted = sum(entry.evicted for entry in found.values())
        self._metrics.cache.labels("unavailable").inc(len(absent))
        self._metrics.cache.labels("evicted").inc(evicted)
        self._metrics.cache.labels("redis").inc(len(missing) - len(absent) - evicted)
        rows = {item: entry.rows for item, entry in found.items()} | {item: self._layout.rows(item) for item in absent}
        return Fetched(rows, degraded=bool(absent or evicted))

    def forget(self, items: Iterable[int]) -> None:
        """Read some items anew when they are asked for next: their live transitions have changed."""
        self._writes += 1
        for item in items:
            self._lru.pop(item, None)

    def _local(self, item: int) -> Found | None:
        """The rows of an item in process, unless they are too old."""
        entry = self._lru.pop(item, None)
        if entry is None or entry.read_at < time.monotonic() - self._fresh_s:
            return None
        self._lru[item] = entry  # now the one used last
        return entry

    async def _read(self, batch: list[Sequence[int]]) -> list[Mapping[int, Found]]:
        """Answer several look-ups with one round trip."""
        read_at, writes = time.monotonic(), self._writes
        items = sorted({item for wanted in batch for item in wanted})
        keys = [key for item in items for key in (self._layout.row(item), self._layout.live(item))]
        values = await self._link.mget("mget", keys)
        found = {item: entry for item in items if (entry := self._found(item, values, read_at))}
        self._loader.replace([item for item, entry in found.items() if entry.evicted])
        if writes == self._writes:  # else the values may be older than what `forget` was told of
            self._remember(found)
        return [{item: found[item] for item in wanted if item in found} for wanted in batch]

    def _found(self, item: int, values: Mapping[str, bytes | None], read_at: float) -> Found | None:
        """The rows that the values of an item make, if its node answered."""
        row, live = self._layout.row(item), self._layout.live(item)
        if row not in values:
            return None
        loaded, gained = decode_rows(values[row]), values[live]
        rows = loaded or self._layout.rows(item)
        return Found(rows | decode_live(gained) if gained else rows, evicted=loaded is None, read_at=read_at)

    def _remember(self, found: Mapping[int, Found]) -> None:
        self._lru.update({item: entry for item, entry in found.items() if not entry.evicted})
        while len(self._lru) > self._lru_items:
            self._lru.popitem(last=False)
