"""Turns a ranking of item indexes into what goes over the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.bundle import Bundle
from models.catalogue import Catalogue
from models.context import Context
from models.explanations import Explanation, explain
from models.transitions import RowTable
from service.candidates import POPULARITY, Candidates, Popularity, SourceList
from service.metrics import Stages
from service.schemas import (
    ExperimentInfo,
    IndicatorValue,
    ItemExplanation,
    ModelInfo,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
    SourceEntry,
)
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
    explanations: Sequence[Explanation | None]

    @classmethod
    def without_history(cls, items: Sequence[int]) -> "Chosen":
        """Items of a cold start: there is nothing to relate them to."""
        nothing = [None] * len(items)
        return cls(items, nothing, [()] * len(items), nothing)

    @classmethod
    def after(cls, items: Sequence[int], context: Context, rows: RowTable) -> "Chosen":
        """Items after a history; `rows` holds those of the items."""
        found, explanations = explain(context, rows, np.array(items, dtype=np.int64))
        categories = ["uncategorized" if explanation is None else explanation.label for explanation in explanations]
        return cls(items, categories, found.labels(), explanations)


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
                sources=(sources := self._sources(item, candidates.sources, ranks)),
                category=category,
                labels=list(labels),
                # What popularity put there is not there because of this evidence.
                explanation=None if POPULARITY in sources else explained(item, explanation, self._catalogue),
                **self._catalogue.attributes(item),
            )
            for rank, (item, category, labels, explanation) in enumerate(
                zip(chosen.items, chosen.categories, chosen.labels, chosen.explanations, strict=True), start=1
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


def explained(item: int, explanation: Explanation | None, catalogue: Catalogue) -> ItemExplanation | None:
    """An explanation in the caller's item ids, and as a sentence."""
    if explanation is None:
        return None
    via = catalogue.item_id(explanation.via)
    through = None if explanation.through is None else catalogue.item_id(explanation.through)
    return ItemExplanation(
        category=explanation.category,
        hop=explanation.hop,
        support=explanation.support,
        via=via,
        through=through,
        text=_sentence(explanation, catalogue.item_id(item), via, through),
    )


def _sentence(explanation: Explanation, item: str, via: str, through: str | None) -> str:
    near = "right" if explanation.hop == 1 else f"within {explanation.hop} steps"
    times = f"{explanation.support} time{'s' if explanation.support > 1 else ''}"
    first, *second = (leg == "forward" for leg in explanation.legs)
    from_via = f"{near} {'after' if first else 'before'} {via}"
    if not second:
        return f"{item} came {from_via}, {times} in earlier sequences."
    # The second leg starts from the item: forward means that `through` came after it, so the item came before.
    to_through = f"{near} {'before' if second[0] else 'after'} {through}"
    return f"{item} came {to_through}, and {through} {from_via}, at least {times} each in earlier sequences."


def _indicator(candidates: Candidates) -> IndicatorValue | None:
    if candidates.indicator is None:
        return None
    name, value = candidates.indicator
    return IndicatorValue(name=name, value=value)
