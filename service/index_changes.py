"""What replicas tell each other: the items whose live transitions have changed.

A Redis stream. Whoever has written to the logs of items announces the items, and every replica reads once a round what
the others have announced, so that rows in process stay good without asking Redis for each of them.

A replica has missed nothing while the entry that it read last is still in the stream, and begins with an entry of its
own to have one. However the stream lost it (trimmed, evicted, flushed, gone with a restart, set back to an older
state), what stood behind it is unknown, and the replica begins anew.
"""

import math
import time
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from typing import cast

import numpy as np
from redis.asyncio import Redis

from service.errors import StoreUnavailableError
from service.index_rows import Layout
from service.redis_link import RedisLink

LIVE_DAYS = 30
"""What events have added to an index is forgotten after so many days without more."""
LIVE_S = LIVE_DAYS * 86_400
KEPT = 4096
"""Announcements that the stream keeps. So many in a round are not read, which costs more than it saves."""
ROUNDS = 5
"""Rounds after which a replica that hears nothing from Redis no longer relies on what it knows."""

_DEADLINE_S = 0.25
_FIELD = b"items"
_ITEM = np.dtype("<u4")
_Entry = tuple[bytes, Mapping[bytes, bytes]]


class Changes:
    """The announcements about one index, as one replica writes and follows them."""

    def __init__(self, layout: Layout, link: RedisLink, round_s: float) -> None:
        self._key = layout.changes
        self._link = link
        self._trust_s = ROUNDS * round_s
        self._followed_at = -math.inf  # on the clock of time.monotonic
        self._last = b""  # id of the entry that was read last
        self._owed: set[int] = set()

    @property
    def known(self) -> bool:
        """Whether `follow` has told of every announcement but those of the last ROUNDS rounds at most."""
        return time.monotonic() < self._followed_at + self._trust_s

    def owe(self, items: Iterable[int]) -> None:
        """Announce items later, when it is not certain whether their logs are being written."""
        self._owed.update(items)

    async def announce(self, items: Iterable[int] = ()) -> None:
        """Tell all replicas that the logs of items, and of those owed, have been written.

        Raises:
            StoreUnavailableError: Redis did not confirm in time; the items are owed. The next call announces them, and
                so does the next `follow`.
        """
        items, self._owed = self._owed.union(items), set()
        if not items:
            return
        try:
            await self._append(items)
        except BaseException:
            self.owe(items)
            raise

    async def follow(self) -> Set[int] | None:
        """The items announced since the last call, this replica's own included.

        None says that any item may have changed: with the first call, when announcements have been lost, and when the
        last call that succeeded was too long ago.

        Raises:
            StoreUnavailableError: Redis did not answer in time, or has no memory for the entry to begin with. The next
                call tells of what this one should have.
        """
        began = time.monotonic()
        with suppress(StoreUnavailableError):  # a Redis that is full can still be read
            await self.announce()
        changed = await self._read() if self.known else None
        if changed is None:
            self._last = await self._append(())
        self._followed_at = began
        return changed

    async def _read(self) -> Set[int] | None:
        found = await self._link.call(
            "changes", self._key, lambda redis: redis.xrange(self._key, self._last, count=KEPT), _DEADLINE_S
        )
        entries = cast(list[_Entry], found)
        if not entries or entries[0][0] != self._last or len(entries) == KEPT:
            return None
        self._last = entries[-1][0]
        return set(np.frombuffer(b"".join(fields[_FIELD] for _, fields in entries[1:]), dtype=_ITEM).tolist())

    async def _append(self, items: Iterable[int]) -> bytes:
        """Add an entry; its id."""
        value = np.fromiter(items, dtype=_ITEM).tobytes()

        async def write(redis: Redis) -> bytes:
            pipeline = redis.pipeline(transaction=False)
            pipeline.xadd(self._key, {_FIELD: value}, maxlen=KEPT)
            pipeline.expire(self._key, LIVE_S)
            entry, _ = await pipeline.execute()
            return bytes(entry)

        return await self._link.call("announce", self._key, write, _DEADLINE_S)
