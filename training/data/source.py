"""What a reader hands over: clean events, and a way to read the attributes of the items that are wanted."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from training.data.events import Events, RowPolicy
from training.data.items import Item


@dataclass(frozen=True)
class Source:
    """An opened data set."""

    name: str
    batches: Iterator[Events]  # in file order, at least one, read as they are taken
    order: str | None  # the column that the events are sorted by; None = the order of the file
    read_items: Callable[[Container[str] | None], Iterable[Item]]  # None: every row of the items file
    lists_catalogue: bool  # the items file is the catalogue, not a dump of everything that ever had a page
    min_count: int
    policies: tuple[RowPolicy, ...]  # of the interactions first; complete only when everything was read

    def items(self, used: set[str]) -> Iterable[Item]:
        """The items with attributes: of those with events, or all of a file that lists the catalogue."""
        everything = self.lists_catalogue and self.min_count <= 1
        return self.read_items(None if everything else used)
