"""What users did, as a list of events in Redis for each of them, the most recent first.

An entry is `EVENT_ID ITEM_ID`; an event that came without an id has an empty one. Ids of events hold no space.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from redis.asyncio import Redis

from models.transitions import HOPS
from service.redis_link import RedisLink

WRITE_DEADLINE_S = 0.25
_DAY_S = 86_400

# One script, so that a repeated event is recognised whoever else writes at the same time, and so that two writers
# never see the same predecessor. KEYS: the list. ARGV: how many entries are kept, how many entries the caller wants to
# know of those that came before, seconds to live, then the new entries, the oldest first.
_APPEND = """
local known = {}
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  known[string.match(entry, '^[^ ]*')] = true
end
known[''] = nil
local before = redis.call('LRANGE', KEYS[1], 0, ARGV[2] - 1)
local added = {}
for place = 4, #ARGV do
  local id = string.match(ARGV[place], '^[^ ]*')
  if not known[id] then
    redis.call('LPUSH', KEYS[1], ARGV[place])
    added[#added + 1] = ARGV[place]
    known[id] = id ~= '' or nil
  end
end
redis.call('LTRIM', KEYS[1], 0, ARGV[1] - 1)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {before, added}
"""


class UserEvent(NamedTuple):
    """A user did something with an item. A user's event with an `event_id` that was seen before has no effect."""

    user_id: str
    item_id: str
    event_id: str = ""


class Appended(NamedTuple):
    """What a user's history gained."""

    before: list[str]
    """The item ids of the HOPS events before, or of as many as there were, the most recent last."""
    added: list[str]
    """The item ids of the new events, the most recent last; repeated ones are not among them."""


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
        key = _key(user_id)
        values = await self._link.call("history", key, lambda redis: redis.lrange(key, 0, self._length - 1))
        return _item_ids(reversed(values))

    def by_node(self, events: Iterable[UserEvent]) -> list[list[UserEvent]]:
        """The events in groups that `append` can store; each user's stay in order.

        Raises:
            StoreUnavailableError: there is no Redis for one of the users.
        """
        of_user: defaultdict[str, list[UserEvent]] = defaultdict(list)
        for event in events:
            of_user[_key(event.user_id)].append(event)
        return [[event for key in keys for event in of_user[key]] for keys in self._link.by_node(list(of_user))]

    async def append(self, events: Sequence[UserEvent]) -> list[Appended]:
        """Store one group of events, given in the order in which they happened; what each of their users gained.

        Raises:
            StoreUnavailableError: Redis did not confirm in time; some of the events may have been stored.
        """
        entries: defaultdict[str, list[str]] = defaultdict(list)
        for event in events:
            entries[_key(event.user_id)].append(f"{event.event_id} {event.item_id}")

        async def write(redis: Redis) -> list[list[list[bytes]]]:
            pipeline = redis.pipeline(transaction=False)
            for key, new in entries.items():
                pipeline.eval(_APPEND, 1, key, self._length, HOPS, self._seconds, *new)
            return await pipeline.execute()

        answers = await self._link.call("events", _key(events[0].user_id), write, WRITE_DEADLINE_S)
        return [Appended(_item_ids(reversed(before)), _item_ids(added)) for before, added in answers]


def _item_ids(entries: Iterable[bytes | str]) -> list[str]:
    return [entry.partition(b" ")[2].decode() for entry in entries if isinstance(entry, bytes)]


def _key(user_id: str) -> str:
    return f"tandem:history:{user_id}"
