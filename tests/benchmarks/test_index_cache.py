"""The index that is loaded is as described, and a toy one is measured in every way."""

import numpy as np
import pytest

from benchmarks.index_cache import AT_ONCE, EVENTS_AN_ITEM, measure, report, requests_of, synthetic_index
from models.transitions import TransitionIndex
from service.index_rows import Layout

ITEMS = 1200


@pytest.fixture(scope="module")
def index() -> TransitionIndex:
    return synthetic_index(ITEMS)


def test_the_index_is_as_described(index: TransitionIndex) -> None:
    after = np.bincount(np.repeat(np.arange(ITEMS + 1), np.diff(index.forward.offsets[0])), index.forward.counts[0])
    assert index.num_items == ITEMS
    assert after.sum() == pytest.approx((EVENTS_AN_ITEM - 1) * ITEMS, rel=0.1)  # the last event of a user has no next
    assert after[1:61].sum() > 2 * 0.05 * after.sum()  # the first 5 % of the items have a larger share
    assert after.max() < 0.05 * after.sum()


def test_a_request_looks_up_different_items(index: TransitionIndex) -> None:
    requests = requests_of(index, 30)
    assert [len(request) for request in requests] == [14] * 30
    assert all(len(set(request[4:])) == 10 and not set(request[:4]) & set(request[4:]) for request in requests)


async def test_a_toy_index_is_measured(index: TransitionIndex) -> None:
    found = await measure(index, requests_of(index, 4 * AT_ONCE))
    load, size = found["load"], Layout("any", index).bytes
    assert load["seconds"] > 0
    assert load["values_mib"] == pytest.approx(size / 2**20, abs=0.06)
    assert load["values_bytes_per_item"] < load["redis_bytes_per_item"] < 2 * load["values_bytes_per_item"]
    assert load["reported_bytes_per_item"] == pytest.approx(load["redis_bytes_per_item"], rel=0.2)
    assert len(found["look_ups"]) == 4
    for times in found["look_ups"].values():
        assert 0 < times["p50_ms"] <= times["p99_ms"]
    assert report({**found, "redis": "6.2"}).row_count == 4
