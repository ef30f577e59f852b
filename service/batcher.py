"""Batches that form by themselves: no timer, a batch leaves as soon as there is a free slot to run it.

At low load a job never waits; under load jobs gather while the slots are busy, and batches grow. After Hugging Face's
text-embeddings-inference. Jobs whose caller has left, or whose deadline has passed, are dropped when a batch forms,
before they cost anything.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from service.errors import DeadlineError, OverloadedError
from service.metrics import Metrics

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Done(NamedTuple, Generic[Answer]):
    """The answer to a job, and where its time went."""

    answer: Answer
    queue_s: float
    run_s: float


@dataclass(frozen=True)
class _Entry(Generic[Job, Answer]):
    job: Job
    deadline: float  # on the clock of time.monotonic
    future: "asyncio.Future[Done[Answer]]"
    arrived: float = field(default_factory=time.monotonic)


class Slots:
    """How many batches may run at once, over all batchers that share them. The longest waiting job goes first."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._batchers: list[Batcher[Any, Any]] = []
        self._scheduled = False

    def join(self, batcher: "Batcher[Any, Any]") -> None:
        """Let a batcher take slots."""
        self._batchers.append(batcher)

    def wake(self) -> None:
        """Look for work once everything that is ready now has been queued, so that it leaves as one batch."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._fill)

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        self._fill()

    def _fill(self) -> None:
        self._scheduled = False
        while self._free:
            waiting = [batcher for batcher in self._batchers if batcher.depth]
            if not waiting:
                return
            if min(waiting, key=lambda batcher: batcher.oldest).start():
                self._free -= 1


class Batcher(Generic[Job, Answer]):
    """The queue in front of one function that answers batches."""

    def __init__(
        self,
        name: str,
        run: Callable[[list[Job]], Awaitable[Sequence[Answer]]],
        slots: Slots,
        metrics: Metrics,
        max_batch: int,
    ) -> None:
        self.name = name
        self.max_batch = max_batch
        self._run = run
        self._slots = slots
        self._depth = metrics.queue_depth.labels(name)
        self._size = metrics.batch_size.labels(name)
        self._dropped = metrics.rejected.labels("dropped")
        self._queue: deque[_Entry[Job, Answer]] = deque()
        slots.join(self)

    @property
    def depth(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    @property
    def oldest(self) -> float:
        """When the first waiting job arrived; there must be one."""
        return self._queue[0].arrived

    def submit(self, job: Job, deadline: float) -> "asyncio.Future[Done[Answer]]":
        """The future answer to a job; cancelling it withdraws the job.

        It ends with a DeadlineError when the job was dropped, and with whatever `run` raised for the batch.

        Args:
            job: what `run` takes a list of.
            deadline: on the clock of `time.monotonic`; a job that has not left by then is dropped.
        """
        future: asyncio.Future[Done[Answer]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Entry(job, deadline, future))
        self._depth.set(self.depth)
        self._slots.wake()
        return future

    def start(self) -> bool:
        """Take a batch off the queue and run it; False when every job in it had been given up."""
        entries = self._take()
        if not entries:
            return False
        self._size.observe(len(entries))
        running = asyncio.ensure_future(self._run([entry.job for entry in entries]))
        running.add_done_callback(partial(self._finish, entries, time.monotonic()))
        return True

    def _take(self) -> list[_Entry[Job, Answer]]:
        now = time.monotonic()
        entries: list[_Entry[Job, Answer]] = []
        while self._queue and len(entries) < self.max_batch:
            entry = self._queue.popleft()
            if entry.future.done():  # cancelled: the client has left, or the request timed out
                self._dropped.inc()
            elif entry.deadline <= now:
                entry.future.set_exception(DeadlineError("the deadline passed while the request waited in the queue"))
            else:
                entries.append(entry)
        self._depth.set(self.depth)
        return entries

    def _finish(
        self, entries: list[_Entry[Job, Answer]], started: float, done: "asyncio.Future[Sequence[Answer]]"
    ) -> None:
        self._slots.release()
        seconds = time.monotonic() - started
        try:
            answers = done.result()
        except Exception as error:  # the callers get it
            for entry in entries:
                if not entry.future.done():
                    entry.future.set_exception(error)
            return
        for entry, answer in zip(entries, answers, strict=True):
            if not entry.future.done():
                entry.future.set_result(Done(answer, started - entry.arrived, seconds))


class Admission:
    """A bound on the requests in flight, and so on every queue behind it."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.limit = limit
        self._metrics = metrics
        self._inside = 0

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place for the block.

        Raises:
            OverloadedError: all places are taken.
        """
        if self._inside >= self.limit:
            self._metrics.rejected.labels("overloaded").inc()
            raise OverloadedError(
                f"at most {self.limit} requests are in flight at once, and all places are taken; try again later, "
                "or raise TANDEM_QUEUE_LIMIT"
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
