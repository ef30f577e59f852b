"""What the service measures: Prometheus metrics, and the stages of one request.

Histograms, never summaries: they can be added up over replicas. Labels are few and bounded.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

OBJECTIVE_S = 0.050


def _latency_buckets() -> tuple[float, ...]:
    """0.5 ms to 5 s in steps of 1.6, with the objective as an edge of its own: its share can be read off exactly."""
    steps = [0.0005 * 1.6**power for power in range(20)]
    return tuple(sorted([*(step for step in steps if step < 5.0), OBJECTIVE_S, 5.0]))


LATENCY_BUCKETS = _latency_buckets()
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
ALPHA_BUCKETS = tuple(tenth / 10 for tenth in range(1, 11))


class Metrics:
    """All metrics of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = self._counter("requests", "Answers.", "route", "status")
        self.duration = self._latency("request_duration_seconds", "Time to answer.", "route", "variant")
        self.stages = self._latency("stage_duration_seconds", "Time in a stage of a request.", "stage", "variant")
        # Looking labels up each time would cost as much as all else about a metric.
        self.request = cache(self.requests.labels)
        self.answer = cache(self.duration.labels)
        self.stage = cache(self.stages.labels)
        self.inflight = self._gauge("inflight_requests", "Requests being answered.")
        self.queue_depth = self._gauge("queue_depth", "Jobs that wait for a free thread.", "graph")
        self.batch_size = Histogram(
            "tandem_batch_size", "Jobs in a batch.", ["graph"], buckets=BATCH_BUCKETS, registry=self.registry
        )
        self.rejected = self._counter("rejected", "Work turned down or dropped.", "reason")
        self.graph_failures = self._counter("graph_failures", "Batches that a graph failed on.", "graph")
        self.fallbacks = self._counter("fallbacks", "Answers by something else than the variant.", "fallback")
        self.degraded = self._counter("degraded", "Answers that a part was missing for.", "part")
        self.cold_starts = self._counter("cold_starts", "Answers without a history.")
        self.cache = self._counter("cache_requests", "Look-ups of transition rows, by where they ended.", "result")
        self.redis = self._latency("redis_duration_seconds", "Round trips to Redis.", "operation")
        self.redis_failures = self._counter("redis_failures", "Failed round trips to Redis.", "operation")
        self.alpha = Histogram(
            "tandem_alpha", "SASRec's weight.", ["variant"], buckets=ALPHA_BUCKETS, registry=self.registry
        )
        self.exposures = self._counter("experiment_exposures", "Assigned answers.", "experiment", "variant")
        self.index_bytes = self._gauge("index_bytes", "Memory of the transition index in Redis.")
        self.index_item_bytes = self._gauge("index_item_bytes", "Memory of an item's transitions in Redis, on average.")
        self.events = self._counter("events", "Events stored.")
        self.catalogue = self._gauge("catalogue_items", "Items of the bundle that answers.")
        self.model = self._gauge("model_info", "1 for the bundle that answers.", "model", "version")
        self.load = self._gauge("model_load_seconds", "Time to load, test and warm the bundle.")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tandem_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tandem_{name}", text, labels, registry=self.registry)

    def _latency(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"tandem_{name}", text, labels, buckets=LATENCY_BUCKETS, registry=self.registry)

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


class Stages:
    """Where the time of one request went, in seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()

    def add(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def extend(self, stage: str, seconds: float) -> None:
        """Raise a stage to `seconds` if it is shorter: for parts of it that ran side by side."""
        self.seconds[stage] = max(self.seconds.get(stage, 0.0), seconds)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def milliseconds(self) -> Mapping[str, float]:
        """`{stage}_ms` of every stage so far, and `total_ms` since the start."""
        total = {"total_ms": round((time.perf_counter() - self._started) * 1e3, 3)}
        return total | {f"{stage}_ms": round(seconds * 1e3, 3) for stage, seconds in self.seconds.items()}

    def server_timing(self) -> str:
        """The value of the Server-Timing header, in milliseconds."""
        return ", ".join(f"{name.removesuffix('_ms')};dur={value}" for name, value in self.milliseconds().items())
