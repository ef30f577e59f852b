"""Ranks without sorting against the service's fusion, and the fit against every point of its grid."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from models.bundle import Bundle
from models.ensemble import EnsembleParameters, align, fuse, weight
from models.graphs import Generated, Graphs
from models.indicators import INDICATORS, Ranked
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Instances
from training.fusion import ALPHAS, adaptive_grid, ensemble_ranks, fit_ensemble, mixture_ranks
from training.lists import Lists, collect, indicator_values
from training.metrics import ndcg, ranks

LENGTH = 6
Entries = list[tuple[int, float]]
# Few items and coarse scores: overlaps and ties are the common case; missing entries become empty slots.
entries = st.lists(
    st.tuples(st.integers(1, 10), st.integers(-8, 0).map(lambda score: score / 4)),
    max_size=LENGTH,
    unique_by=lambda entry: entry[0],
).map(lambda found: sorted(found, key=lambda entry: -entry[1]))
weights = st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0, 1)
cases = st.lists(st.tuples(entries, entries, weights, st.integers(1, 12)), min_size=1, max_size=6)


def as_arrays(rows: list[Entries]) -> tuple[np.ndarray, np.ndarray]:
    filled = [row + [(0, -math.inf)] * (LENGTH - len(row)) for row in rows]
    return (
        np.array([[item for item, _ in row] for row in filled]),
        np.array([[score for _, score in row] for row in filled], dtype=np.float32),
    )


@given(cases)
def test_mixture_ranks_are_the_ranks_in_the_fused_list(rows: list[tuple[Entries, Entries, float, int]]) -> None:
    sasrec, generative = as_arrays([row[0] for row in rows]), as_arrays([row[1] for row in rows])
    alpha, targets = np.array([row[2] for row in rows]), np.array([row[3] for row in rows], dtype=np.int32)
    expected = ranks(fuse(sasrec, generative, alpha).items, targets)
    assert mixture_ranks(align(sasrec, generative), alpha, targets).tolist() == expected.tolist()


def test_random_lists_cover_hits_misses_and_ties() -> None:
    """The same comparison on lists as long as the real ones, where every case is known to occur."""
    random = np.random.default_rng(0)
    n, width = 400, 20

    def draw() -> tuple[np.ndarray, np.ndarray]:
        items = np.stack([random.permutation(40)[:width] + 1 for _ in range(n)])
        return items, -np.sort(random.integers(0, 8, (n, width)).astype(np.float32), axis=1)

    sasrec, generative = draw(), draw()
    alpha, targets = random.choice([0.0, 0.3, 0.5, 1.0], n), random.integers(1, 41, n)
    fused = fuse(sasrec, generative, alpha)
    expected = ranks(fused.items, targets)
    assert 0 < (expected == 0).sum() < n
    assert (np.diff(fused.scores[:, :10], axis=1) == 0).any()
    np.testing.assert_array_equal(mixture_ranks(align(sasrec, generative), alpha, targets), expected)


@pytest.fixture(scope="module")
def instances(bundle: Bundle) -> Instances:
    return tiny_dataset(bundle).instances("valid")


@pytest.fixture(scope="module")
def lists(graphs: Graphs, instances: Instances) -> Lists:
    return collect(graphs, instances, "B", Console(file=io.StringIO()))


def score_by_loop(parameters: EnsembleParameters, values: np.ndarray, lists: Lists, instances: Instances) -> float:
    """Mean NDCG@10, one user at a time, through the fusion of the service."""
    total = 0.0
    for row, target in enumerate(instances.targets.tolist()):
        one = slice(row, row + 1)
        sasrec = (lists.ranked.items[one], lists.ranked.scores[one])
        generative = (lists.generated["tiger"].items[one], lists.generated["tiger"].scores[one])
        top = fuse(sasrec, generative, weight(parameters, values[one])).items[0, :10].tolist()
        if target in top:
            total += 1 / math.log2(top.index(target) + 2)
    return total / len(instances.targets)


def test_the_fit_is_the_best_point_of_the_grid(bundle: Bundle, lists: Lists, instances: Instances) -> None:
    found = fit_ensemble(bundle, "tiger", lists, instances)
    values = {name: indicator_values(bundle, name, lists, instances) for name in INDICATORS}

    def score(parameters: EnsembleParameters) -> float:
        return score_by_loop(parameters, values[parameters.indicator], lists, instances)

    fixed = [score(EnsembleParameters(mode="fixed", alpha=float(alpha))) for alpha in ALPHAS]
    adaptive = [score(point) for name in INDICATORS for point in adaptive_grid(name, values[name], alpha=0.5)]
    assert max(fixed) > min(fixed)
    assert max(adaptive) > min(adaptive)
    assert found.mode == "adaptive"
    assert score(found.fixed()) == pytest.approx(max(fixed), abs=1e-12)
    assert score(found) == pytest.approx(max(adaptive), abs=1e-12)


def test_the_grid_gives_the_median_request_every_weight_at_every_slope() -> None:
    values = np.array([0.01, 0.03, 0.2])
    points = list(adaptive_grid("msp", values, alpha=0.3))
    medians = sorted({(point.k, round(weight(point, values)[1], 2)) for point in points})
    slopes = sorted({point.k for point in points})
    assert medians == [(k, tenth / 10) for k in slopes for tenth in range(1, 10)]
    assert {point.alpha for point in points} == {0.3}


def rigged(n: int = 40) -> tuple[Lists, Instances]:
    """SASRec is right where it is sure of itself, the generative model everywhere else; the other is wrong then."""
    targets = np.arange(1, n + 1)
    wrong, filler = np.full(n, 50), np.full(n, 51)
    sure = np.arange(n) % 2 == 0
    scores = np.tile(np.array([0.0, -1.0], dtype=np.float32), (n, 1))
    ranked = Ranked(
        items=np.stack([np.where(sure, targets, wrong), filler], axis=1),
        scores=scores,
        msp=np.where(sure, 0.35, 0.15).astype(np.float32),
        log_partition=np.full(n, 3.0, dtype=np.float32),
    )
    generated = Generated(np.stack([np.where(sure, wrong, targets), filler], axis=1), scores)
    histories = [np.array([1], dtype=np.int32)] * n
    return Lists(ranked, {"tiger": generated}), Instances(np.arange(n), histories, targets.astype(np.int32))


def test_the_fit_finds_the_threshold_that_tells_the_models_apart(bundle: Bundle) -> None:
    lists, instances = rigged()
    found = fit_ensemble(bundle, "tiger", lists, instances)
    values = {name: indicator_values(bundle, name, lists, instances) for name in INDICATORS}
    assert (found.mode, found.indicator) == ("adaptive", "msp")
    assert 0.15 < found.tau < 0.35
    assert (ensemble_ranks(found, "tiger", lists, values, instances.targets) == 1).all()
    fixed = ndcg(ensemble_ranks(found.fixed(), "tiger", lists, values, instances.targets), 10).mean()
    assert fixed < 1


def test_a_weight_of_one_is_sasrecs_own_order(bundle: Bundle, lists: Lists, instances: Instances) -> None:
    values = {name: indicator_values(bundle, name, lists, instances) for name in INDICATORS}
    own = ranks(lists.ranked.items, instances.targets)
    only = EnsembleParameters(mode="fixed", alpha=1.0)
    found = ensemble_ranks(only, "sid_mlp", lists, values, instances.targets)
    assert (own > 0).any()
    np.testing.assert_array_equal(found[own > 0], own[own > 0])
    assert (found[own == 0] != own[own == 0]).any()  # what SASRec lacks may still come from the other list


def test_an_adaptive_weight_is_looked_up_under_its_own_indicator(
    bundle: Bundle, lists: Lists, instances: Instances
) -> None:
    n = len(instances.targets)
    values = {"msp": np.zeros(n), "transition": np.ones(n)}
    sasrec_only = EnsembleParameters(mode="adaptive", indicator="transition", k=1000.0, tau=0.5)
    generative_only = EnsembleParameters(mode="adaptive", indicator="msp", k=1000.0, tau=0.5)
    for parameters, alpha in ((sasrec_only, 1.0), (generative_only, 0.0)):
        found = ensemble_ranks(parameters, "tiger", lists, values, instances.targets)
        fixed = EnsembleParameters(mode="fixed", alpha=alpha)
        np.testing.assert_array_equal(found, ensemble_ranks(fixed, "tiger", lists, values, instances.targets))
