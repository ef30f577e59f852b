"""The lists of a bundle's graphs, gathered in batches, against one call for each instance."""

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from models.bundle import Bundle
from models.graphs import Graphs
from models.histories import allow_all_but
from tests.bundles import ITEMS, WIDTH
from training.data.dataset import Dataset, Instances, LoadReport
from training.lists import Lists, Protocol, collect, popular

QUIET = Console(file=io.StringIO())


def tiny_dataset(bundle: Bundle, users: int = 60) -> Dataset:
    """Random sequences over the tiny bundle's items: repeats, lengths around the graphs' limits, users too short."""
    random = np.random.default_rng(5)
    lengths = [2, 3, 25, *random.integers(1, 26, users - 3)]
    return Dataset(
        name="invented",
        user_ids=[f"U{user}" for user in range(users)],
        sequences=[random.integers(1, ITEMS + 1, length).astype(np.int32) for length in lengths],
        items=pa.table({"item_id": list(bundle.catalogue.item_ids), "title": [""] * ITEMS, "text": [""] * ITEMS}),
        report=LoadReport(rows=int(sum(lengths)), kept=int(sum(lengths)), dropped={}, tie_rule="none"),
    )


@pytest.fixture(scope="module")
def instances(bundle: Bundle) -> Instances:
    return tiny_dataset(bundle).instances("test")


@pytest.fixture(scope="module", params=["A", "B"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return request.param


@pytest.fixture(scope="module")
def lists(graphs: Graphs, instances: Instances, protocol: Protocol) -> Lists:
    return collect(graphs, instances, protocol, QUIET)


def assert_same_list(items: np.ndarray, scores: np.ndarray, own_items: np.ndarray, own_scores: np.ndarray) -> None:
    """Equal up to the order of scores that rounding cannot tell apart."""
    np.testing.assert_allclose(scores, own_scores, rtol=0, atol=1e-4)
    order, own_order = items.argsort(), own_items.argsort()
    np.testing.assert_array_equal(items[order], own_items[own_order])
    np.testing.assert_allclose(scores[order], own_scores[own_order], rtol=0, atol=1e-4)


def test_every_instance_has_the_answer_to_its_own_history(
    lists: Lists, graphs: Graphs, instances: Instances, protocol: Protocol
) -> None:
    assert lists.ranked.items.shape == (len(instances.targets), WIDTH)
    assert list(lists.generated) == ["tiger", "sid_mlp"]
    for row, history in enumerate(instances.histories):
        allowed = allow_all_but([history], ITEMS) if protocol == "B" else None
        ranked = graphs.rank([history], allowed)
        assert_same_list(lists.ranked.items[row], lists.ranked.scores[row], ranked.items[0], ranked.scores[0])
        assert lists.ranked.msp[row] == pytest.approx(ranked.msp[0], abs=1e-6)
        assert lists.ranked.log_partition[row] == pytest.approx(ranked.log_partition[0], abs=1e-4)
        for name, generated in lists.generated.items():
            own = graphs.generate(name, [history], allowed)
            assert_same_list(generated.items[row], generated.scores[row], own.items[0], own.scores[0])


def test_only_protocol_b_masks_the_history(lists: Lists, instances: Instances, protocol: Protocol) -> None:
    for items in (lists.ranked.items, *(generated.items for generated in lists.generated.values())):
        repeats = [np.isin(row, history).any() for row, history in zip(items, instances.histories, strict=True)]
        assert any(repeats) == (protocol == "A")


def popular_by_loop(bundle: Bundle, hidden: set[int]) -> list[int]:
    """The most popular items that are not hidden; the smaller index first among equals."""
    order = sorted(range(1, ITEMS + 1), key=lambda item: (-bundle.popularity[item], item))
    return [item for item in order if item not in hidden]


def test_popular_items_are_those_of_a_loop(bundle: Bundle, instances: Instances, protocol: Protocol) -> None:
    found = popular(bundle, instances, protocol)
    assert found.shape == (len(instances.targets), 10)
    for row, history in zip(found, instances.histories, strict=True):
        hidden = set(history.tolist()) if protocol == "B" else set()
        assert row.tolist() == popular_by_loop(bundle, hidden)[:10]


def test_a_history_that_leaves_fewer_popular_items_leaves_empty_slots(bundle: Bundle) -> None:
    histories = [np.arange(1, ITEMS - 3, dtype=np.int32), np.array([1], dtype=np.int32)]
    nearly_all = Instances(np.arange(2), histories, np.array([ITEMS, 2], dtype=np.int32))
    found = popular(bundle, nearly_all, "B")
    left = popular_by_loop(bundle, set(histories[0].tolist()))
    assert len(left) == 4
    assert found[0].tolist() == left + [0] * 6
    assert found[1].tolist() == popular_by_loop(bundle, {1})[:10]
