"""Fixed shapes against the same session run as it comes. The shapes are tried on the CPU, which records nothing."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from models.graphs import Generated, Graphs
from models.histories import pad
from models.indicators import Ranked
from models.replay import Buckets, Replay
from tests.bundles import ITEMS

BUCKETS = Buckets.up_to(6, 20)


def replay(graphs: Graphs, name: str) -> Replay:
    opened = graphs.opened[name]
    return Replay(opened.session, opened.device, graphs.tables(name), BUCKETS)


def histories(batch: int, length: int) -> list[list[int]]:
    random = np.random.default_rng([batch, length])
    return [random.integers(1, ITEMS + 1, random.integers(1, length + 1)).tolist() for _ in range(batch)]


def feeds(graphs: Graphs, name: str, batch: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    allowed = np.random.default_rng(len(batch)).random((len(batch), ITEMS + 1)) < 0.6
    history = pad(batch, graphs.entries[name].max_history)
    if name == "sasrec":
        return {"history": history, "allowed": allowed}
    masks = graphs.bundle.trie.node_masks(allowed)
    return {"history": history, **{f"allowed_{level}": mask for level, mask in enumerate(masks)}}


@pytest.mark.parametrize("name", ["tiger", "sid_mlp", "sasrec"])
def test_padding_changes_no_item(graphs: Graphs, name: str) -> None:
    outputs = Ranked._fields if name == "sasrec" else Generated._fields
    fixed = replay(graphs, name)
    # Large and small in turn: what an earlier batch left in the buffers must not show. 7 is beyond every bucket.
    for batch, length in [(6, 20), (1, 1), (3, 5), (1, 20), (5, 4), (7, 9), (2, 11), (1, 1)]:
        inputs = feeds(graphs, name, histories(batch, length))
        found = fixed.run(outputs, inputs)
        expected = graphs.opened[name].session.run(outputs, {**inputs, **graphs.tables(name)})
        assert [array.shape for array in found] == [array.shape for array in expected]
        np.testing.assert_array_equal(found[0], expected[0])
        for ours, theirs in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_an_answer_outlives_the_next_run(graphs: Graphs) -> None:
    fixed = replay(graphs, "tiger")
    first = fixed.run(["items"], feeds(graphs, "tiger", [[1, 2]]))[0]
    kept = first.copy()
    fixed.run(["items"], feeds(graphs, "tiger", [[50, 60]]))
    np.testing.assert_array_equal(first, kept)


def test_threads_may_share_it(graphs: Graphs) -> None:
    fixed = replay(graphs, "sid_mlp")
    batches = [histories(1 + number % 4, 8) for number in range(24)]
    inputs = [feeds(graphs, "sid_mlp", batch) for batch in batches]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda feed: fixed.run(["items"], feed)[0], inputs))
    for items, feed in zip(found, inputs, strict=True):
        np.testing.assert_array_equal(items, fixed.run(["items"], feed)[0])


def test_shapes_share_the_buffers_that_fit_both(graphs: Graphs) -> None:
    fixed = replay(graphs, "tiger")
    for length in (1, 20):
        fixed.run(["items"], feeds(graphs, "tiger", [[1] * length]))
    short, full = (fixed._slots[1, length].inputs for length in (5, 20))
    assert short["allowed_0"] is full["allowed_0"]
    assert short["history"].shape() == [1, 5]


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (6, 20), (32, 50), (1, 3)])
def test_buckets_hold_every_batch_up_to_the_largest(batch: int, length: int) -> None:
    buckets = Buckets.up_to(batch, length)
    for size in range(1, batch + 1):
        for longest in range(1, length + 1):
            found = buckets.fit(size, longest)
            assert found is not None
            assert size <= found[0] < 2 * size + 1
            assert longest <= found[1] <= length
    assert buckets.fit(batch + 1, 1) is None
    assert (batch, length) in list(buckets)
