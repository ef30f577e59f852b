"""From the lists of the sources to one ranking: pure functions of one request."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.context import Context
from models.fusion import Fusion
from models.graphs import Allowed, Generated
from models.indicators import IndicatorName, Ranked
from models.transitions import FORWARD
from service.variants import SASREC

POPULARITY = "popularity"
TRANSITIONS = "transitions"


class SourceList(NamedTuple):
    """What one source answered, best first."""

    items: Sequence[int]
    scores: Sequence[float]

    @classmethod
    def of(cls, items: NDArray[np.int64], scores: NDArray[np.floating]) -> "SourceList":
        """The filled slots of a list of one request, [1, K]."""
        real = items[0] > 0
        if real.all():
            return cls(items[0].tolist(), scores[0].tolist())
        return cls(items[0][real].tolist(), scores[0][real].tolist())


class Candidates(NamedTuple):
    """A ranking, and what it was made from."""

    ranking: SourceList
    sources: Mapping[str, SourceList]
    """The lists that went into the ranking; popularity is implied for an item that none of them holds."""
    indicator: tuple[IndicatorName, float] | None = None
    alpha: float | None = None
    fallback: str | None = None
    """What the ranking comes from when it is not what the variant asks for."""


def single(name: str, answer: Ranked | Generated, *, fallback: bool) -> Candidates:
    """The list of one graph as it is; `fallback`: the other graph of an ensemble failed."""
    ranking = SourceList.of(answer.items, answer.scores)
    return Candidates(ranking, {name: ranking}, fallback=name if fallback else None)


def ensemble(fusion: Fusion, ranked: Ranked, name: str, generated: Generated, context: Context) -> Candidates:
    """SASRec's list and that of generative graph `name`, fused."""
    verdict = fusion(ranked, (generated.items, generated.scores), [context])
    return Candidates(
        ranking=SourceList.of(verdict.fused.items, verdict.fused.scores),
        sources={
            SASREC: SourceList.of(ranked.items, ranked.scores),
            name: SourceList.of(generated.items, generated.scores),
        },
        indicator=(verdict.indicator, float(verdict.value[0])),
        alpha=None if verdict.alpha is None else float(verdict.alpha[0]),
    )


def successors(context: Context, allowed: Allowed) -> Candidates:
    """What followed the last item in training, nearest first, then most often; scores are counts at that distance."""
    edges = context.edges.take(np.flatnonzero((context.edges.position == 0) & (context.edges.side == FORWARD)))
    counts: dict[int, int] = {}
    for at in np.lexsort((edges.neighbour, -edges.times, edges.hop)).tolist():
        item = int(edges.neighbour[at])
        if allowed[item]:
            counts.setdefault(item, int(edges.times[at]))
    ranking = SourceList(list(counts), list(map(float, counts.values())))
    return Candidates(ranking, {TRANSITIONS: ranking}, fallback=TRANSITIONS)


class Popularity:
    """The catalogue by the number of training interactions."""

    def __init__(self, counts: NDArray[np.int64]) -> None:
        """Take counts [N + 1]; position 0 is padding."""
        self._counts = counts
        self._order = np.argsort(-counts[1:], kind="stable") + 1
        self._ranks = np.empty(len(counts), dtype=np.int64)
        self._ranks[self._order] = np.arange(1, len(counts))

    def best(self, allowed: Allowed, count: int, taken: Sequence[int] = ()) -> list[int]:
        """The `count` most popular items that are allowed and not taken; fewer when there are no more."""
        if count <= 0:
            return []
        free = allowed.copy()
        free[list(taken)] = False
        found: list[int] = self._order[free[self._order]][:count].tolist()
        return found

    def candidates(self, allowed: Allowed, count: int) -> Candidates:
        """The most popular items as the whole answer; scores are counts."""
        items = self.best(allowed, count)
        return Candidates(SourceList(items, self._counts[items].astype(np.float64).tolist()), {}, fallback=POPULARITY)

    def entry(self, item: int) -> tuple[int, float]:
        """The place of an item in the whole catalogue, from 1, and its training interactions."""
        return int(self._ranks[item]), float(self._counts[item])
