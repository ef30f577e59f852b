"""Transitions that events add to the index of the bundle that is served.

Each item has a log of its own in Redis, which every replica appends to and readers add to the bundle's rows. A log is
bounded, and forgotten when nothing is added to it for long. Retraining is what makes transitions last.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from redis.asyncio import Redis

from models.transitions import HOPS
from service.index_rows import Layout, encode_live
from service.redis_link import RedisLink

LOG_BYTES = 16_384
"""Of one item: its latest 4096 transitions. An item that stands amid others gains eight with each event."""
LOG_DAYS = 30
WRITE_DEADLINE_S = 0.25

# KEYS: a log. ARGV: its most bytes, its seconds to live, what it gains.
_APPEND = """
if redis.call('APPEND', KEYS[1], ARGV[3]) > tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], -ARGV[1], -1))
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
_DAY_S = 86_400

History = Sequence[int | None]
"""Item indexes, the most recent last; None is an item that the catalogue lacks, which keeps its place."""


class LiveTransitions:
    """Writes the logs of one bundle."""

    def __init__(self, layout: Layout, link: RedisLink) -> None:
        self._layout = layout
        self._link = link

    async def add(self, histories: Iterable[tuple[History, History]]) -> list[int]:
        """Add the transitions that histories gained, given as what came before and what is new; the items concerned.

        Raises:
            StoreUnavailableError: Redis did not confirm in time; some of the transitions may have been added.
        """
        gains = logs(histories)
        values = {self._layout.live(item): bytes(gain) for item, gain in gains.items()}
        groups = self._link.by_node(list(values))
        await asyncio.gather(*(self._append({key: values[key] for key in group}) for group in groups))
        return list(gains)

    async def _append(self, values: Mapping[str, bytes]) -> None:
        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.eval(_APPEND, 1, key, LOG_BYTES, LOG_DAYS * _DAY_S, value)
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
