"""From clean events in file order to what happened to each user in turn: order, repeats, k-core."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.data.events import Events, Times, id_order
from training.data.kcore import kcore

REPEAT = "repeat of the event before (same user, item and time)"


@dataclass(frozen=True)
class Chronicle:
    """Events by user, then time. E events; codes are positions in the lists of ids, which are in the order of ids."""

    users: NDArray[np.int64]  # [E] ascending
    items: NDArray[np.int64]  # [E]
    user_ids: list[str]
    item_ids: list[str]

    @classmethod
    def of(cls, events: Events, min_count: int, dropped: Counter[str]) -> "Chronicle":
        """Order the events, then leave out repeats and what is outside the `min_count`-core; count it in `dropped`."""
        users, user_ids = _encode(events.users)
        items, item_ids = _encode(events.items)
        order = _order(users, events.times)
        users, items = users[order], items[order]
        if events.times is not None:
            fresh = ~_repeats(users, items, events.times[order])
            dropped[REPEAT] += int((~fresh).sum())
            users, items = users[fresh], items[fresh]
        if min_count > 1:
            core = kcore(users, items, min_count)
            dropped[f"outside the {min_count}-core"] += int((~core).sum())
            users, items = users[core], items[core]
        return cls(users, items, user_ids, item_ids)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the events of each user who has any begin."""
        return np.flatnonzero(np.diff(self.users, prepend=-1))

    def present_users(self) -> list[str]:
        """The ids of the users who have events, in the order of `starts`."""
        return [self.user_ids[code] for code in self.users[self.starts]]

    def present_items(self) -> set[str]:
        """The ids of the items that have events."""
        return {self.item_ids[code] for code in np.unique(self.items)}

    def sequences(self, catalogue: list[str]) -> list[NDArray[np.int32]]:
        """One array per present user, oldest first: item `catalogue[i]` becomes index i + 1."""
        index_of = {item_id: position for position, item_id in enumerate(catalogue, start=1)}
        index = np.array([index_of.get(item_id, 0) for item_id in self.item_ids], dtype=np.int32)
        return np.split(index[self.items], self.starts[1:]) if len(self.users) else []


def _encode(ids: pa.StringArray) -> tuple[NDArray[np.int64], list[str]]:
    """Codes of the ids, [E], and the distinct ids by code."""
    encoded = ids.dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    ordered = id_order(distinct)
    rank = {name: code for code, name in enumerate(ordered)}
    codes = np.array([rank[name] for name in distinct], dtype=np.int64)
    return codes[encoded.indices.to_numpy()], ordered


def _order(users: NDArray[np.int64], times: Times | None) -> NDArray[np.int64]:
    """Positions of the events by user, then time; both sorts are stable, so ties keep the order of the file."""
    return np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))


def _repeats(users: NDArray[np.int64], items: NDArray[np.int64], times: Times) -> NDArray[np.bool_]:
    """Events that only say again what the one before said: a double click, or a dump that holds a line twice."""
    repeats = np.zeros(len(users), dtype=np.bool_)
    repeats[1:] = (np.diff(users) == 0) & (np.diff(items) == 0) & (np.diff(times) == 0)
    return repeats
