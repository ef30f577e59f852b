"""The graphs of one bundle, tested, warm, and reachable from the event loop through batchers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import BundleError
from models.graphs import Generated, Graphs
from models.indicators import Ranked
from models.masks import Filters, Open
from models.replay import Buckets
from models.sessions import Execution
from service.batcher import Batcher, Slots
from service.metrics import Metrics
from service.settings import Settings
from service.variants import SASREC, available

Answer = TypeVar("Answer")
_log = structlog.get_logger()


def execution(settings: Settings) -> Execution:
    """How the settings have graphs run."""
    replay = settings.graph_batch if settings.cuda_graphs else {}
    return Execution(
        device=settings.device,
        threads=settings.intra_op_threads,
        precision=settings.precision,
        gpu_memory_mb=settings.gpu_memory_mb,
        replay=replay,
    )


class Query(NamedTuple):
    """What a graph is asked: a history of item indexes, not empty, and what it may answer with."""

    history: Sequence[int]
    open: Open


class Engine:
    """A loaded bundle. The answer to each query keeps a batch dimension of one: [1, K]."""

    def __init__(self, bundle: Bundle, graphs: Graphs, filter_bytes: int) -> None:
        self.bundle = bundle
        self.graphs = graphs
        self.filters = Filters(bundle.trie, filter_bytes)
        self.variants = available(bundle.manifest)

    @classmethod
    def load(cls, path: Path, settings: Settings) -> "Engine":
        """Verify, load, test and warm a bundle; takes seconds, so run it in a thread.

        Raises:
            BundleError: the bundle is not fit to serve; the message says why.
        """
        bundle = Bundle.open(path)
        graphs = Graphs(bundle, execution(settings))
        engine = cls(bundle, graphs, settings.filter_cache_mb << 20)
        engine._check_experiment(settings)
        for name, choice in graphs.choices.items():
            _log.info("graph opened", graph=name, precision=choice.precision, file=choice.file, reason=choice.reason)
            engine.test(name)
            engine.warm(name, settings.graph_batch.get(name, 1))
        return engine

    def rank(self, queries: Sequence[Query]) -> list[Ranked]:
        """SASRec's answers."""
        answers = self.graphs.rank(_histories(queries), _stack([query.open.items for query in queries]))
        return [Ranked._make(array[row : row + 1] for array in answers) for row in range(len(queries))]

    def generate(self, name: str, queries: Sequence[Query]) -> list[Generated]:
        """The answers of generative graph `name`."""
        masks = [_stack(rows) for rows in zip(*(query.open.nodes for query in queries), strict=True)]
        answers = self.graphs.search(name, _histories(queries), masks)
        return [Generated._make(array[row : row + 1] for array in answers) for row in range(len(queries))]

    def run(self, name: str, queries: Sequence[Query]) -> Sequence[Ranked | Generated]:
        """The answers of any graph."""
        return self.rank(queries) if name == SASREC else self.generate(name, queries)

    def test(self, name: str) -> None:
        """Ask a graph twice, the second time without its first answer, and check what comes back.

        Raises:
            BundleError: the graph fails or breaks its contract.
        """
        size, width = self.bundle.catalogue.size, self.graphs.entries[name].width
        history, everything = list(range(1, min(size, 5) + 1)), self.filters.get(None)
        try:
            (free,) = self.run(name, [Query(history, everything.without([]))])
            best = int(free.items[0, 0])
            (masked,) = self.run(name, [Query(history, everything.without([best]))])
        except Exception as error:  # ONNX Runtime raises many types that share no base but Exception
            raise BundleError(f"graph {name} of {self.bundle.path} must answer a test request, but: {error}") from error
        fault = _fault(free, width, size) or _fault(masked, width, size)
        if fault is None and best in masked.items:
            fault = f"item {best} came back although it was not allowed"
        if fault:
            raise BundleError(f"graph {name} of {self.bundle.path} fails its self-test: {fault}. Export it again.")

    def warm(self, name: str, largest_batch: int) -> None:
        """Run every bucket of batch sizes and lengths; on a GPU, this is when the CUDA graphs are recorded."""
        everything = self.filters.get(None).without([])
        for batch, length in Buckets.up_to(largest_batch, self.graphs.entries[name].max_history):
            self.run(name, [Query([1] * length, everything)] * batch)

    def _check_experiment(self, settings: Settings) -> None:
        missing = [name for name, share in settings.experiment_weights.items() if share and name not in self.variants]
        if missing:
            raise BundleError(
                f"the experiment gives users to {missing}, but {self.bundle.path} can serve only "
                f"{list(self.variants)}. Set TANDEM_EXPERIMENT_WEIGHTS to variants that it can."
            )


class Lanes:
    """A batcher for each graph of an engine; all share the worker threads."""

    def __init__(self, engine: Engine, settings: Settings, metrics: Metrics) -> None:
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="graph")
        slots = Slots(settings.workers)

        def lane(name: str, run: Callable[[list[Query]], list[Answer]]) -> Batcher[Query, Answer]:
            return Batcher(name, self._on_thread(run), slots, metrics, settings.graph_batch.get(name, 1))

        self.rank = lane(SASREC, engine.rank)
        self.generate = {
            name: lane(name, partial(engine.generate, name)) for name in engine.graphs.entries if name != SASREC
        }

    def _on_thread(
        self, run: Callable[[list[Query]], list[Answer]]
    ) -> Callable[[list[Query]], Awaitable[list[Answer]]]:
        return lambda queries: asyncio.get_running_loop().run_in_executor(self._threads, run, queries)

    def close(self) -> None:
        """Let running batches finish and end the threads."""
        self._threads.shutdown(wait=True)


def _histories(queries: Sequence[Query]) -> list[Sequence[int]]:
    return [query.history for query in queries]


def _stack(rows: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Masks [n] of several queries as one array [B, n]; a single one is not copied."""
    return np.stack(rows) if len(rows) > 1 else rows[0][np.newaxis]


def _fault(answer: Ranked | Generated, width: int, size: int) -> str | None:
    """What breaks the contract of a graph in its answer to one query, or None."""
    if answer.items.shape != (1, width) or answer.scores.shape != (1, width):
        return f"its manifest promises lists of {width}, got {answer.items.shape} and {answer.scores.shape}"
    items, scores = answer.items[0], answer.scores[0]
    real = items > 0
    found = items[real]
    if not found.size or found.max() > size or len(set(found.tolist())) != found.size:
        return f"items must be distinct and within 1..{size}, got {items.tolist()}"
    if not np.isfinite(scores[real]).all() or (np.diff(scores[real]) > 0).any():
        return f"scores must be finite and fall, got {scores.tolist()}"
    if isinstance(answer, Ranked) and not 0.0 <= float(answer.msp[0]) <= 1.0:
        return f"msp must be a probability, got {answer.msp.tolist()}"
    return None
