"""What a reader hands over: clean events, and a way to read the attributes of the items that are wanted."""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from training.data.events import Events, RowPolicy
from training.data.items import Item


@dataclass(frozen=True)
class Source:
    """An opened data set."""

    name: str
    rows: int  # interactions in the file, unusable ones included
    events: Events
    order: str | None  # the column that the events are sorted by; None = the order of the file
    read_items: Callable[[Container[str] | None], Iterable[Item]]  # None: every row of the items file
    lists_catalogue: bool  # the items file is the catalogue, not a dump of everything that ever had a page
    min_count: int
    policies: tuple[RowPolicy, ...]  # what they dropped is complete only after the items were read
