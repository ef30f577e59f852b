"""What happens to the events that clients send: the histories of their users grow, and so does the transition index."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from models.catalogue import Catalogue
from service.errors import StoreUnavailableError
from service.live_transitions import LiveTransitions
from service.transition_cache import TransitionCache
from service.user_histories import Appended, UserEvent, UserHistories


class Stored(NamedTuple):
    """What became of events."""

    new: int
    """How many were not a repetition of one that is stored."""
    indexed: bool
    """Whether the transitions of all that are new were added to the index."""


class LiveEvents:
    """Stores events."""

    def __init__(
        self, catalogue: Catalogue, histories: UserHistories, transitions: LiveTransitions, cache: TransitionCache
    ) -> None:
        self._catalogue = catalogue
        self._histories = histories
        self._transitions = transitions
        self._cache = cache

    async def store(self, events: Sequence[UserEvent]) -> Stored:
        """Store events, given in the order in which they happened.

        A history is written before its transitions. A caller who repeats a call that broke off in between therefore
        loses transitions at worst, and never counts one twice.

        Raises:
            StoreUnavailableError: some of the events may have been stored.
        """
        parts = await asyncio.gather(
            *(self._store(group) for group in self._histories.by_node(events)), return_exceptions=True
        )
        stored = [part for part in parts if isinstance(part, Stored)]
        for part in parts:  # raised only now, so that no other part is cut off
            if isinstance(part, BaseException):
                raise part
        return Stored(sum(part.new for part in stored), all(part.indexed for part in stored))

    async def _store(self, events: Sequence[UserEvent]) -> Stored:
        gained = await self._histories.append(events)
        new = sum(len(history.added) for history in gained)
        try:
            self._cache.forget(await self._transitions.add(map(self._indexes, gained)))
        except StoreUnavailableError:
            return Stored(new, indexed=False)
        return Stored(new, indexed=True)

    def _indexes(self, gained: Appended) -> tuple[list[int | None], list[int | None]]:
        index_of = self._catalogue.index_of
        return [index_of(item_id) for item_id in gained.before], [index_of(item_id) for item_id in gained.added]
