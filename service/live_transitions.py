"""Transitions that events add to the index of the bundle that is served.

Each item has a log of its own in Redis, which every replica appends to and readers add to the bundle's rows. A log is
bounded, and forgotten when nothing is added to it for long. Retraining is what makes transitions last.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from redis.asyncio import Redis

from models.transitions import HOPS
from service.index_changes import LIVE_S, Changes
from service.index_rows import Layout, encode_live
from service.redis_link import RedisLink

LOG_BYTES = 16_384
"""Of one item: its latest 4096 transitions. An item that stands amid others gains eight with each event."""
WRITE_DEADLINE_S = 0.25

# KEYS: a log. ARGV: its most bytes, its seconds to live, what it gains.
_APPEND = """
if redis.call('APPEND', KEYS[1], ARGV[3]) > tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -ARGV[1], -1))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
History = Sequence[int | None]
"""Item indexes, the most recent last; None is an item that the catalogue lacks, which keeps its place."""


class LiveTransitions:
    """Writes the logs of one bundle."""

    def __init__(self, layout: Layout, link: RedisLink, changes: Changes) -> None:
        self._layout = layout
        self._link = link
        self._changes = changes

    async def add(self, histories: Iterable[tuple[History, History]]) -> list[int]:
        """Add the transitions that histories gained, given as what came before and what is new; the items concerned.

        The items are announced once their logs are written, so that a replica that hears of one and reads it finds all.

        Raises:
            StoreUnavailableError: Redis did not confirm in time. Some of the transitions, or all of them, may have been
                added without an announcement. It is made up for with the next round of this replica that reaches
                Redis; until then the replicas may go on answering from rows that lack them. Should this replica end
                before, they may do so until the items change again.
        """
        gains = logs(histories)
        try:
            await self._write({self._layout.live(item): bytes(gain) for item, gain in gains.items()})
        except BaseException:
            self._changes.owe(gains)
            raise
        await self._changes.announce(gains)
        return list(gains)

    async def _write(self, values: Mapping[str, bytes]) -> None:
        groups = self._link.by_node(list(values))
        parts = await asyncio.gather(
            *(self._append({key: values[key] for key in group}) for group in groups), return_exceptions=True
        )
        for part in parts:  # raised only now, so that nothing is written after it has been announced
            if isinstance(part, BaseException):
                raise part

    async def _append(self, values: Mapping[str, bytes]) -> None:
        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.eval(_APPEND, 1, key, LOG_BYTES, LIVE_S, value)
            await pipeline.execute()

        await self._link.call("live", next(iter(values)), write, WRITE_DEADLINE_S)


def logs(histories: Iterable[tuple[History, History]]) -> Mapping[int, bytearray]:
    """What the log of each item gains, from histories given as what came before and what is new."""
    gains: defaultdict[int, bytearray] = defaultdict(bytearray)
    for before, added in histories:
        items = [*before, *added]
        for place in range(len(before), len(items)):
            for hop in range(1, min(HOPS, place) + 1):
                earlier, later = items[place - hop], items[place]
                if earlier is not None and later is not None:
                    gains[earlier] += encode_live("forward", hop, later)
                    gains[later] += encode_live("backward", hop, earlier)
    return gains
