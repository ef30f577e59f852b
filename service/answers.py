"""Turns a ranking of item indexes into what goes over the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.bundle import Bundle
from models.categories import TYPES, Categories, categorize
from service.candidates import POPULARITY, Candidates, Popularity, SourceList
from service.metrics import Stages
from service.schemas import (
    ExperimentInfo,
    IndicatorValue,
    ModelInfo,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
    SourceEntry,
)
from service.transition_cache import Fetched
from service.variants import Variant


@dataclass
class Task:
    """A request on its way, and what has become known about it."""

    request: RecommendRequest
    request_id: str
    variant: Variant
    deadline: float  # on the clock of time.monotonic
    stages: Stages
    history: Sequence[int] = ()  # item indexes, the most recent last
    degraded: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chosen:
    """The items of an answer, and how training transitions relate each of them to the history."""

    items: Sequence[int]
    categories: Sequence[str | None]
    labels: Sequence[Sequence[str]]

    @classmethod
    def without_history(cls, items: Sequence[int]) -> "Chosen":
        """Items of a cold start: there is nothing to relate them to."""
        return cls(items, [None] * len(items), [()] * len(items))

    @classmethod
    def after(cls, items: Sequence[int], history: Sequence[int], rows: Fetched) -> "Chosen":
        """Items after a history; `rows` holds those of the items and of the history's last ones."""
        found = categorize(rows.table(), [history], np.array(items, dtype=np.int64)[np.newaxis])
        return cls(items, strongest(found), found.labels())


def strongest(categories: Categories) -> list[str]:
    """One label for each item of [1, K]: the type with the smallest hop (ties: the order of TYPES), else the group."""
    hops = categories.hops[0].tolist()
    groups = categories.group()[0].tolist()
    types = ([(hop, f"{name}_{hop}") for name, hop in zip(TYPES, row, strict=True) if hop] for row in hops)
    return [
        min(found, key=lambda entry: entry[0])[1] if found else group
        for found, group in zip(types, groups, strict=True)
    ]


class Presenter:
    """Builds responses about the items of one bundle."""

    def __init__(self, bundle: Bundle, popularity: Popularity, experiment: str) -> None:
        self._manifest = bundle.manifest
        self._catalogue = bundle.catalogue
        self._popularity = popularity
        self._experiment = experiment

    def response(self, task: Task, candidates: Candidates, chosen: Chosen) -> RecommendResponse:
        """The response with the chosen items."""
        variant = task.variant.name
        return RecommendResponse(
            request_id=task.request_id,
            model=ModelInfo(
                bundle=self._manifest.name,
                version=self._manifest.version,
                variant=variant,
                graphs=[name for name in candidates.sources if name in self._manifest.graphs],
            ),
            experiment=ExperimentInfo(name=self._experiment, variant=variant, forced=task.request.variant is not None),
            items=self._items(candidates, chosen),
            indicator=_indicator(candidates),
            alpha=candidates.alpha,
            cold_start=not task.history,
            fallback=candidates.fallback,
            degraded=task.degraded,
            timings=dict(task.stages.milliseconds()),
        )

    def _items(self, candidates: Candidates, chosen: Chosen) -> list[RecommendedItem]:
        scores = dict(zip(candidates.ranking.items, candidates.ranking.scores, strict=True))
        ranks = {
            name: {item: rank for rank, item in enumerate(source.items, start=1)}
            for name, source in candidates.sources.items()
        }
        return [
            RecommendedItem(
                item_id=self._catalogue.item_id(item),
                rank=rank,
                score=scores.get(item),
                sources=self._sources(item, candidates.sources, ranks),
                category=category,
                labels=list(labels),
                **self._catalogue.attributes(item),
            )
            for rank, (item, category, labels) in enumerate(
                zip(chosen.items, chosen.categories, chosen.labels, strict=True), start=1
            )
        ]

    def _sources(
        self, item: int, sources: Mapping[str, SourceList], ranks: Mapping[str, Mapping[int, int]]
    ) -> dict[str, SourceEntry | None]:
        found: dict[str, SourceEntry | None] = dict.fromkeys(sources)
        for name, source in sources.items():
            if rank := ranks[name].get(item):
                found[name] = SourceEntry(rank=rank, score=source.scores[rank - 1])
        if not any(found.values()):
            rank, count = self._popularity.entry(item)
            found[POPULARITY] = SourceEntry(rank=rank, score=count)
        return found


def _indicator(candidates: Candidates) -> IndicatorValue | None:
    if candidates.indicator is None:
        return None
    name, value = candidates.indicator
    return IndicatorValue(name=name, value=value)
