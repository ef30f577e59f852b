"""The batcher: no wait when idle, batches that grow under load, nothing done for callers that are gone."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from service.batcher import Admission, Batcher, Slots
from service.errors import DeadlineError, OverloadedError
from service.metrics import Metrics


class Kitchen:
    """Doubles numbers once it is told to go on, and remembers the batches it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def double(self, jobs: list[int]) -> Sequence[int]:
        self.batches.append(jobs)
        await self.open.wait()
        if 13 in jobs:
            raise ValueError("13")
        return [2 * job for job in jobs]


def soon() -> float:
    return time.monotonic() + 60


def batcher(kitchen: Kitchen, slots: Slots, max_batch: int = 3, name: str = "kitchen") -> Batcher[int, int]:
    return Batcher(name, kitchen.double, slots, Metrics(), max_batch)


async def test_a_single_job_leaves_at_once() -> None:
    kitchen = Kitchen()
    done = await batcher(kitchen, Slots(1)).submit(4, soon())
    assert done.answer == 8
    assert done.queue_s < 0.5
    assert kitchen.batches == [[4]]


async def test_jobs_that_arrive_together_leave_together_up_to_the_limit() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(1))
    done = await asyncio.gather(*(lane.submit(job, soon()) for job in range(7)))
    assert [found.answer for found in done] == [0, 2, 4, 6, 8, 10, 12]
    assert kitchen.batches == [[0, 1, 2], [3, 4, 5], [6]]


async def test_jobs_gather_while_all_slots_are_busy() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(1))
    kitchen.open.clear()
    tasks = [lane.submit(1, soon())]
    await asyncio.sleep(0.01)
    for job in (2, 3):
        tasks.append(lane.submit(job, soon()))
        await asyncio.sleep(0.01)
    assert lane.depth == 2
    kitchen.open.set()
    await asyncio.gather(*tasks)
    assert kitchen.batches == [[1], [2, 3]]
    assert lane.depth == 0


async def test_a_slot_goes_to_the_job_that_has_waited_longest() -> None:
    first, second, slots = Kitchen(), Kitchen(), Slots(1)
    lanes = [batcher(first, slots), batcher(second, slots)]
    first.open.clear()
    tasks = [lanes[0].submit(1, soon())]
    await asyncio.sleep(0.01)
    for lane in (lanes[1], lanes[0]):
        tasks.append(lane.submit(2, soon()))
        await asyncio.sleep(0.01)
    assert second.batches == []  # the only slot is shared
    second.open.clear()
    first.open.set()
    await asyncio.sleep(0.01)
    assert (first.batches, second.batches) == ([[1]], [[2]])
    second.open.set()
    await asyncio.gather(*tasks)
    assert first.batches == [[1], [2]]


async def test_more_slots_run_more_batches_side_by_side() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(2), max_batch=1)
    kitchen.open.clear()
    tasks = [lane.submit(job, soon()) for job in range(3)]
    await asyncio.sleep(0.01)
    assert kitchen.batches == [[0], [1]]
    kitchen.open.set()
    await asyncio.gather(*tasks)


async def test_cancelled_and_late_jobs_are_dropped_before_they_cost_anything() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(1))
    kitchen.open.clear()
    running = lane.submit(1, soon())
    await asyncio.sleep(0.01)
    gone = lane.submit(2, soon())
    late = lane.submit(3, time.monotonic() + 0.02)
    patient = lane.submit(4, soon())
    await asyncio.sleep(0.05)
    gone.cancel()
    await asyncio.sleep(0)
    kitchen.open.set()
    assert (await patient).answer == 8
    assert (await running).answer == 2
    with pytest.raises(DeadlineError):
        await late
    assert kitchen.batches == [[1], [4]]


async def test_the_queue_goes_on_when_a_whole_batch_was_given_up() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(1), max_batch=1)
    kitchen.open.clear()
    tasks = [lane.submit(job, soon()) for job in range(4)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.sleep(0)
    kitchen.open.set()
    assert (await tasks[3]).answer == 6
    assert kitchen.batches == [[0], [3]]


async def test_a_failure_reaches_the_callers_of_its_batch_and_nobody_else() -> None:
    kitchen = Kitchen()
    lane = batcher(kitchen, Slots(1))
    answers = await asyncio.gather(*(lane.submit(job, soon()) for job in (1, 13, 2, 3)), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["ValueError", "ValueError", "ValueError", "Done"]
    assert (await lane.submit(5, soon())).answer == 10


async def test_admission_is_bounded_and_gives_places_back() -> None:
    admission = Admission(2, Metrics())
    with admission.enter(), pytest.raises(OverloadedError, match="at most 2"), admission.enter(), admission.enter():
        raise AssertionError("a third place was given")
    with admission.enter(), admission.enter():
        pass
