"""One request, from its history to the answer.

    history -> variant -> SASRec, generative graph and transition rows side by side -> indicator, ensemble -> top k
            -> categories -> answer

When a part is missing the answer comes from what is left (ensemble, one model, transitions, popularity) and says so.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

import structlog

from models.context import Context
from models.errors import BundleError, RequestError
from models.graphs import Allowed, Generated
from models.indicators import Ranked
from models.masks import Open
from models.transitions import HOPS, RowTable
from service.answers import Chosen, Presenter, Task
from service.batcher import Admission, Done
from service.candidates import Candidates, Popularity, ensemble, single, successors
from service.engine import Engine, Lanes, Query
from service.errors import DeadlineError, StoreUnavailableError, shown
from service.experiments import assign
from service.metrics import Metrics, Stages
from service.schemas import RecommendRequest, RecommendResponse
from service.settings import Settings
from service.transition_cache import TransitionCache
from service.user_histories import UserHistories
from service.variants import SASREC, Variant

_NAMED = 5  # unknown items that a message lists
_log = structlog.get_logger()
GraphAnswer = TypeVar("GraphAnswer", Ranked, Generated)


class Recommender:
    """Answers requests from one engine."""

    def __init__(
        self,
        engine: Engine,
        lanes: Lanes,
        cache: TransitionCache,
        histories: UserHistories,
        settings: Settings,
        metrics: Metrics,
    ) -> None:
        self.engine = engine
        self.cache = cache
        self.histories = histories
        self._catalogue = engine.bundle.catalogue
        self._lanes = lanes
        self._settings = settings
        self._metrics = metrics
        self._admission = Admission(settings.queue_limit, metrics)
        self._popularity = Popularity(engine.bundle.popularity)
        self._presenter = Presenter(engine.bundle, self._popularity, settings.experiment_name)

    async def recommend(self, request: RecommendRequest, request_id: str, stages: Stages) -> RecommendResponse:
        """Answer one request.

        Raises:
            RequestError: the request breaks a rule that only the bundle or the settings know.
            OverloadedError: too many requests are in flight.
            DeadlineError: the deadline passed first.
        """
        self._check(request)
        limit_s = (request.deadline_ms or self._settings.default_deadline_ms) / 1e3
        task = Task(request, request_id, self._variant(request, request_id), time.monotonic() + limit_s, stages)
        with self._admission.enter():
            try:
                async with asyncio.timeout(limit_s):
                    response = await self._answer(task)
            except (TimeoutError, DeadlineError) as error:
                self._metrics.rejected.labels("deadline").inc()
                raise DeadlineError(
                    f"the answer was not ready within {limit_s * 1e3:g} ms; send a larger deadline_ms (at most "
                    f"{self._settings.max_deadline_ms}), or try again when the service is less busy"
                ) from error
        self._count(response, stages)
        return response

    async def rehearse(self) -> None:
        """Answer one request with every variant, so that the whole path is known to work, and warm, before the first.

        Raises:
            BundleError: a variant cannot answer.
        """
        for name, variant in self.engine.variants.items():
            request = RecommendRequest(history=[self._catalogue.item_id(1)], variant=variant.name)
            deadline = time.monotonic() + self._settings.max_deadline_ms / 1e3
            response = await self._answer(Task(request, "rehearsal", variant, deadline, Stages()))
            if response.fallback is not None:
                raise BundleError(f"{self.engine.bundle.path} must answer with {name}, got {response.fallback} instead")

    def _check(self, request: RecommendRequest) -> None:
        limits = self._settings
        for name, value, most in (
            ("k", request.k, limits.max_k),
            ("history", len(request.history or ()), limits.max_history),
            ("deadline_ms", request.deadline_ms or 0, limits.max_deadline_ms),
        ):
            if value > most:
                what = (
                    f"{name} must hold at most {most} items" if name == "history" else f"{name} must be at most {most}"
                )
                raise RequestError(f"{what}, got {value}; the limit is the service's TANDEM_MAX_{name.upper()}")

    def _variant(self, request: RecommendRequest, request_id: str) -> Variant:
        variants = self.engine.variants
        if request.variant is None:
            unit = request.user_id or request_id
            return variants[assign(self._settings.experiment_weights, self._settings.experiment_salt, unit)]
        if request.variant not in variants:
            raise RequestError(
                f"variant must be one that {self.engine.bundle.identity} has the graphs for, {list(variants)}, "
                f"got {request.variant!r}"
            )
        return variants[request.variant]

    async def _answer(self, task: Task) -> RecommendResponse:
        with task.stages.measure("history"):
            task.history = await self._history(task)
            open_ = self._open(task)
        k, allowed = task.request.k, open_.items
        if not task.history or not allowed[1:].any():
            candidates = self._popularity.candidates(allowed, k)
            return self._presenter.response(task, candidates, Chosen.without_history(candidates.ranking.items))
        candidates, context = await self._candidates(task, open_)
        items = list(candidates.ranking.items[:k])
        items += self._popularity.best(allowed, k - len(items), taken=items)
        rows = await self._rows(task, items)
        with task.stages.measure("categories"):
            chosen = Chosen.after(items, context, rows)
        return self._presenter.response(task, candidates, chosen)

    async def _history(self, task: Task) -> list[int]:
        """Item indexes of the given history, or of the user's stored one."""
        request = task.request
        if request.history is not None:
            return self._indexes(request.history, strict=request.unknown_items == "error")
        if request.user_id is None:
            return []
        try:
            return self._indexes(await self.histories.read(request.user_id), strict=False)
        except StoreUnavailableError:
            task.degraded.append("user_history")
            return []

    def _indexes(self, item_ids: list[str], *, strict: bool) -> list[int]:
        indexes = [self._catalogue.index_of(item_id) for item_id in item_ids]
        if strict and None in indexes:
            unknown = [item_id for item_id, index in zip(item_ids, indexes, strict=True) if index is None]
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise RequestError(
                f"history must name items of {self.engine.bundle.identity}, got unknown "
                f'{", ".join(map(shown, unknown[:_NAMED]))}{more}; leave them out, or send "unknown_items": "ignore"'
            )
        return [index for index in indexes if index is not None]

    def _open(self, task: Task) -> Open:
        """Which items the answer may hold."""
        filters = task.request.filters
        hidden = self._indexes(filters.exclude_item_ids, strict=False)
        if task.request.exclude_seen:
            hidden += task.history
        only = filters.include_item_ids
        return self.engine.filters.get(None if only is None else self._indexes(only, strict=False)).without(hidden)

    async def _candidates(self, task: Task, open_: Open) -> tuple[Candidates, Context]:
        """The ranking, and what the history brought to it."""
        query, variant = Query(task.history, open_), task.variant
        with task.stages.measure("inference"):
            ranking = self._lanes.rank.submit(query, task.deadline) if variant.sasrec else None
            name = variant.generative or ""
            generating = self._lanes.generate[name].submit(query, task.deadline) if name else None
            try:
                await asyncio.sleep(0)  # the graphs leave now, and run while the history is looked up
                rows = await self._rows(task, task.history[-HOPS:])
                context = Context.of(task.history, rows)
                ranked = await self._answered(ranking, SASREC, task, "sasrec")
                generated = await self._answered(generating, name, task, "generative")
            finally:
                for future in (ranking, generating):
                    if future is not None and not future.cancel() and not future.cancelled():
                        future.exception()  # whoever left early has no use for it
        with task.stages.measure("fusion"):
            return self._combine(task, open_.items, ranked, generated, context), context

    async def _answered(
        self, future: "asyncio.Future[Done[GraphAnswer]] | None", graph: str, task: Task, stage: str
    ) -> GraphAnswer | None:
        """The answer of one graph; None when the variant does without it, or when it failed."""
        if future is None:
            return None
        try:
            done = await future
        except DeadlineError:
            raise
        except Exception:  # whatever a graph dies of, the answer comes from what is left
            _log.exception("graph failed", graph=graph, request_id=task.request_id)
            self._metrics.graph_failures.labels(graph).inc()
            task.degraded.append(graph)
            return None
        task.stages.add(stage, done.run_s)
        task.stages.extend("queue", done.queue_s)
        return done.answer

    async def _rows(self, task: Task, items: Sequence[int]) -> RowTable:
        """The transition rows of some items."""
        with task.stages.measure("index"):
            found = await self.cache.fetch(items, task.deadline)
        if found.degraded and "transition_index" not in task.degraded:
            task.degraded.append("transition_index")
        return found.table()

    def _combine(
        self, task: Task, allowed: Allowed, ranked: Ranked | None, generated: Generated | None, context: Context
    ) -> Candidates:
        """The best ranking that can be made from what the graphs answered."""
        name = task.variant.generative or ""
        if ranked is not None and generated is not None:
            return ensemble(self.engine.bundle.fusions[name], ranked, name, generated, context)
        if ranked is not None:
            return single(SASREC, ranked, fallback=task.variant.ensemble)
        if generated is not None:
            return single(name, generated, fallback=task.variant.ensemble)
        followers = successors(context, allowed)
        return followers if followers.ranking.items else self._popularity.candidates(allowed, task.request.k)

    def _count(self, response: RecommendResponse, stages: Stages) -> None:
        metrics, variant = self._metrics, response.model.variant
        for stage, seconds in stages.seconds.items():
            metrics.stage(stage, variant).observe(seconds)
        for part in response.degraded:
            metrics.degraded.labels(part).inc()
        if response.fallback is not None:
            metrics.fallbacks.labels(response.fallback).inc()
        if response.alpha is not None:
            metrics.alpha.labels(variant).observe(response.alpha)
        if response.cold_start:
            metrics.cold_starts.inc()
        if not response.experiment.forced:
            metrics.exposures.labels(response.experiment.name, variant).inc()
