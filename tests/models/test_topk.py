"""SASRec's scan with exact scores for its candidates, as exported, against all items scored by PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.indicators import Ranked
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.topk import SCAN_FROM, SASRecScan, SASRecTopK, top_k
from models.sessions import open_session
from training.export import export_sasrec

ITEMS, WIDTH = 5_000, 50


def random_network(items: int, d_model: int) -> SASRec:
    torch.manual_seed(0)
    network = SASRec(SASRecConfig(items, d_model=d_model, layers=1, d_ff=32)).eval()
    with torch.no_grad():
        nn.init.normal_(network.items.weight, std=0.3)
        network.items.weight *= torch.rand(items + 1, 1) * 3  # frequent items get long vectors
        network.items.weight[0] = 0
    return network


@pytest.fixture(scope="module")
def network() -> SASRec:
    return random_network(ITEMS, 24)  # not a power of two


def answers(module: nn.Module, history: np.ndarray, allowed: np.ndarray) -> Ranked:
    with torch.no_grad():
        return Ranked(*(output.numpy() for output in module(torch.from_numpy(history), torch.from_numpy(allowed))))


def test_the_scan_finds_the_best_items_and_gives_their_exact_scores(network: SASRec, tmp_path: Path) -> None:
    export_sasrec(SASRecScan(network, WIDTH), tmp_path / "scan.onnx")
    session = open_session(tmp_path / "scan.onnx", 1)
    random = np.random.default_rng(0)
    history = random.integers(1, ITEMS + 1, (40, 9))
    allowed = random.random((40, ITEMS + 1)) < 0.5
    allowed[0] = np.arange(ITEMS + 1) < 31  # fewer than there are places
    exact = answers(SASRecTopK(network, WIDTH), history, allowed)
    found = Ranked(*session.run(Ranked._fields, {"history": history, "allowed": allowed}))
    shared = [
        len(np.intersect1d(ours[ours > 0], theirs)) for ours, theirs in zip(found.items, exact.items, strict=True)
    ]
    assert np.sum(shared) / (exact.items > 0).sum() > 0.999
    assert found.items[0].tolist() == exact.items[0].tolist()
    with torch.no_grad():
        logits = network(torch.from_numpy(history)).numpy()
    for items, scores, row, open_ in zip(found.items, found.scores, logits, allowed, strict=True):
        real = items > 0
        assert open_[items[real]].all()
        np.testing.assert_allclose(scores[real], row[items[real] - 1], rtol=0, atol=1e-4)
        assert (scores[~real] == -np.inf).all()
    np.testing.assert_allclose(found.msp, exact.msp, rtol=0.2)
    np.testing.assert_allclose(found.log_partition, exact.log_partition, rtol=0, atol=0.1)


def test_in_pytorch_the_scan_is_exact(network: SASRec) -> None:
    history, allowed = np.array([[5, 6, 0], [7, 8, 9]]), np.ones((2, ITEMS + 1), dtype=np.bool_)
    scan, exact = (answers(module(network, WIDTH), history, allowed) for module in (SASRecScan, SASRecTopK))
    np.testing.assert_array_equal(scan.items, exact.items)
    for ours, theirs in zip(scan[1:], exact[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_statistics_are_those_of_the_softmax(network: SASRec) -> None:
    history = np.array([[5, 6], [7, 8]])
    found = answers(SASRecTopK(network, WIDTH), history, np.zeros((2, ITEMS + 1), dtype=np.bool_))
    with torch.no_grad():
        logits = network(torch.from_numpy(history))
    np.testing.assert_allclose(found.log_partition, torch.logsumexp(logits, 1).numpy(), rtol=1e-6)
    np.testing.assert_allclose(found.msp, torch.softmax(logits, 1).amax(1).numpy(), rtol=1e-5)
    assert not found.items.any()


def test_more_places_than_items_stay_empty() -> None:
    small, history = random_network(7, 16), np.array([[5, 6]])
    found = answers(SASRecTopK(small, 10), history, np.ones((1, 8), dtype=np.bool_))
    assert sorted(found.items[0, :7]) == list(range(1, 8))
    assert found.items[0, 7:].tolist() == [0, 0, 0]
    assert (found.scores[0, 7:] == -np.inf).all()


@pytest.mark.parametrize(("items", "module"), [(SCAN_FROM - 1, SASRecTopK), (SCAN_FROM, SASRecScan)])
def test_large_catalogues_are_scanned(items: int, module: type[nn.Module]) -> None:
    assert type(top_k(SASRec(SASRecConfig(items, d_model=16, layers=1)), WIDTH)) is module
