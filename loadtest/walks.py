"""Requests without real data: histories are random walks over the transition index of a bundle."""

from typing import NamedTuple

import numpy as np

from models.transitions import DIRECTIONS, HOPS, Direction, TransitionIndex

HISTORY = 10


class Request(NamedTuple):
    """Item indexes: a history, and the items of an answer."""

    history: list[int]
    items: list[int]


class Walker:
    """Random walks over an index."""

    def __init__(self, index: TransitionIndex, seed: int) -> None:
        self._index = index
        self._random = np.random.default_rng(seed)

    def history(self) -> list[int]:
        """A walk of HISTORY items, the most recent last."""
        history = [self._any()]
        while len(history) < HISTORY:
            history.append(self._step(history[-1], "forward"))
        return history

    def request(self, k: int) -> Request:
        """A history and k distinct items that are not in it."""
        history = self.history()
        items: set[int] = set()
        while len(items) < k:
            items |= {self._end(history)} - set(history)
        return Request(history, self._random.permutation(sorted(items)).tolist())

    def _end(self, history: list[int]) -> int:
        item = history[-int(self._random.integers(1, HOPS + 1))]
        for _ in range(self._random.integers(1, HOPS + 1)):
            item = self._step(item, DIRECTIONS[int(self._random.integers(2))])
        return item

    def _step(self, item: int, direction: Direction) -> int:
        neighbours = self._index.row(direction, item).neighbours[0]
        return int(self._random.choice(neighbours)) if neighbours.size else self._any()

    def _any(self) -> int:
        return int(self._random.integers(1, self._index.num_items + 1))
