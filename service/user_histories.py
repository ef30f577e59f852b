"""What users did, as a list of item ids in Redis for each of them, the most recent first."""

import itertools
from collections.abc import Sequence

from redis.asyncio import Redis

from service.redis_link import RedisLink

WRITE_DEADLINE_S = 0.25
_DAY_S = 86_400


class UserHistories:
    """Reads and appends to the histories of users. Item ids are kept as they came, so they outlive a bundle."""

    def __init__(self, link: RedisLink, length: int, days: int) -> None:
        self._link = link
        self._length = length
        self._seconds = days * _DAY_S

    async def read(self, user_id: str) -> list[str]:
        """The user's item ids, the most recent last; empty for an unknown user.

        Raises:
            StoreUnavailableError: Redis did not answer in time.
        """
        values = await self._link.call("history", lambda redis: redis.lrange(_key(user_id), 0, self._length - 1))
        return [value.decode() for value in reversed(values) if isinstance(value, bytes)]

    async def append(self, events: Sequence[tuple[str, str]]) -> None:
        """Store (user id, item id) pairs, given in the order in which they happened.

        Raises:
            StoreUnavailableError: Redis did not confirm in time; some of the events may have been stored.
        """

        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            # A stable sort: each user's events stay in order.
            for user_id, group in itertools.groupby(sorted(events, key=lambda event: event[0]), lambda event: event[0]):
                key = _key(user_id)
                pipeline.lpush(key, *(item_id for _, item_id in group))
                pipeline.ltrim(key, 0, self._length - 1)
                pipeline.expire(key, self._seconds)
            await pipeline.execute()

        await self._link.call("events", write, WRITE_DEADLINE_S)


def _key(user_id: str) -> str:
    return f"tandem:history:{user_id}"
