"""Ranks without sorting against the service's fusion, and the fit against every point of its grid."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from models.bundle import Bundle
from models.ensemble import METHODS, NORMALISATIONS, Normalisation, Sigmoid, align, fuse, weight
from models.fusion import Fusion
from models.graphs import Generated, Graphs
from models.indicators import Ranked, transition_mass
from tests.training.test_lists import tiny_dataset
from training.data.dataset import Instances
from training.fusion import ALPHAS, contexts, fit_ensemble, sigmoid_grid, slot_ranks, successors
from training.lists import Lists, collect
from training.metrics import ranks
from training.scorers import fit_indicator

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


def ranks_of_mixture(
    sasrec: tuple[np.ndarray, np.ndarray],
    generative: tuple[np.ndarray, np.ndarray],
    alpha: np.ndarray,
    targets: np.ndarray,
) -> np.ndarray:
    aligned = align(sasrec, generative)
    return slot_ranks(aligned, aligned.mixture(alpha), targets)


@given(cases)
def test_mixture_ranks_are_the_ranks_in_the_fused_list(rows: list[tuple[Entries, Entries, float, int]]) -> None:
    sasrec, generative = as_arrays([row[0] for row in rows]), as_arrays([row[1] for row in rows])
    alpha, targets = np.array([row[2] for row in rows]), np.array([row[3] for row in rows], dtype=np.int32)
    expected = ranks(fuse(sasrec, generative, alpha).items, targets)
    assert ranks_of_mixture(sasrec, generative, alpha, targets).tolist() == expected.tolist()


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
    np.testing.assert_array_equal(ranks_of_mixture(sasrec, generative, alpha, targets), expected)


@pytest.fixture(scope="module")
def instances(bundle: Bundle) -> Instances:
    return tiny_dataset(bundle).instances("valid")


@pytest.fixture(scope="module")
def lists(graphs: Graphs, instances: Instances) -> Lists:
    return collect(graphs, instances, "B", Console(file=io.StringIO()))


def score_by_loop(alpha: np.ndarray, lists: Lists, targets: np.ndarray, normalisation: Normalisation) -> float:
    """Mean NDCG@10, one user at a time, through the fusion of the service."""
    total = 0.0
    for row, target in enumerate(targets.tolist()):
        one = slice(row, row + 1)
        sasrec = (lists.ranked.items[one], lists.ranked.scores[one])
        generative = (lists.generated["tiger"].items[one], lists.generated["tiger"].scores[one])
        top = fuse(sasrec, generative, alpha[one], normalisation).items[0, :10].tolist()
        if target in top:
            total += 1 / math.log2(top.index(target) + 2)
    return total / len(targets)


def test_the_weights_are_the_best_points_of_their_grids(bundle: Bundle, lists: Lists, instances: Instances) -> None:
    found = fit_ensemble(bundle, "tiger", lists, instances).parameters
    n = len(instances.targets)
    values = {
        "msp": lists.ranked.msp.astype(np.float64),
        "transition": transition_mass(lists.ranked, successors(bundle, instances)),
    }
    for by in NORMALISATIONS:
        fixed = [score_by_loop(np.full(n, alpha), lists, instances.targets, by) for alpha in ALPHAS]
        assert max(fixed) > min(fixed)
        assert found.by_normalisation[by]["fixed"] == pytest.approx(max(fixed), abs=1e-12)
        for name, indicator in values.items():
            points = [
                score_by_loop(weight(point, indicator), lists, instances.targets, by)
                for point in set(sigmoid_grid(indicator))
            ]
            assert max(points) > min(points)
            assert found.by_normalisation[by][name] == pytest.approx(max(points), abs=1e-12)
    assert list(found.validation) == list(METHODS)
    for method in ("fixed", *values):
        alpha = np.full(n, found.alpha) if method == "fixed" else weight(found.weights[method], values[method])
        score = score_by_loop(alpha, lists, instances.targets, found.using(method).normalisation)
        assert score == pytest.approx(found.validation[method], abs=1e-12)
        assert score == pytest.approx(max(scores[method] for scores in found.by_normalisation.values()), abs=1e-12)
    assert found.validation[found.method] == max(found.validation.values())


def test_the_grid_holds_the_papers_and_gives_the_median_request_every_weight_at_every_slope() -> None:
    values = np.array([0.01, 0.03, 0.2])
    points = set(sigmoid_grid(values))
    assert {Sigmoid(k=k, tau=tau / 10) for k in range(1, 26, 4) for tau in range(6)} <= points
    medians = {(point.k, round(weight(point, values)[1], 2)) for point in points}
    assert {(point.k, tenth / 10) for point in points for tenth in range(1, 10)} <= medians


def rigged(n: int = 200) -> tuple[Lists, Instances]:
    """SASRec is right where it is sure of itself, the generative model everywhere else; the other is wrong then."""
    random = np.random.default_rng(0)
    targets = random.integers(1, 41, n)
    wrong, filler = np.full(n, 50), np.full(n, 51)
    sure = random.permutation(n) < n / 2
    scores = np.tile(np.array([0.0, -1.0], dtype=np.float32), (n, 1))
    ranked = Ranked(
        items=np.stack([np.where(sure, targets, wrong), filler], axis=1),
        scores=scores + np.where(sure, 2.0, 1.0)[:, None].astype(np.float32),
        msp=np.where(sure, 0.35, 0.15).astype(np.float32),
        log_partition=np.full(n, 3.0, dtype=np.float32),
    )
    generated = Generated(np.stack([np.where(sure, wrong, targets), filler], axis=1), scores)
    histories = [np.array([1], dtype=np.int32)] * n
    return Lists(ranked, {"tiger": generated}), Instances(np.arange(n), histories, targets.astype(np.int32))


def test_the_fit_finds_what_tells_the_models_apart(bundle: Bundle) -> None:
    lists, instances = rigged()
    found = fit_ensemble(bundle, "tiger", lists, instances)
    validation = found.parameters.validation
    assert validation["fixed"] < 0.9
    assert validation["msp"] == 1.0
    assert validation["learned"] > 0.99
    assert 0.15 < found.parameters.weights["msp"].tau < 0.35
    verdict = Fusion(found.parameters.using("learned"), found.learned, bundle.facts)(
        lists.ranked, lists.generated["tiger"], contexts(bundle, instances)
    )
    sure = lists.ranked.msp > 0.2
    assert np.median(verdict.value[sure]) > 0.9
    assert np.median(verdict.value[~sure]) < 0.1
    assert (ranks(verdict.fused.items, instances.targets) == 1).mean() > 0.99


def test_whatever_is_learned_is_compared_on_users_it_was_not_fitted_on(bundle: Bundle) -> None:
    """Targets drawn at random cannot be predicted: a fit that had seen them would score above chance."""
    lists, instances = rigged()
    random = np.random.default_rng(1)
    swapped = np.where(
        random.random(len(instances.targets)) < 0.5, lists.ranked.items[:, 0], lists.generated["tiger"].items[:, 0]
    )
    found = fit_ensemble(
        bundle, "tiger", lists, Instances(instances.users, instances.histories, swapped.astype(np.int32))
    )
    chance = (1 + 1 / math.log2(3)) / 2  # first or second of two
    assert found.parameters.validation["candidates"] == pytest.approx(chance, abs=0.05)


def test_the_transition_mass_is_that_of_a_loop(bundle: Bundle, lists: Lists, instances: Instances) -> None:
    found = transition_mass(lists.ranked, successors(bundle, instances))
    for row, history in enumerate(instances.histories):
        followers = set(bundle.transitions.row("forward", int(history[-1])).neighbours[0].tolist())
        scores = zip(lists.ranked.items[row].tolist(), lists.ranked.scores[row].tolist(), strict=True)
        partition = float(lists.ranked.log_partition[row])
        expected = sum(np.exp(score - partition) for item, score in scores if item in followers)
        assert found[row] == pytest.approx(expected, rel=1e-6)
    assert 0 < np.ptp(found) < 1
    unknown = replace(instances, histories=[np.array([0], dtype=np.int32)] * len(instances.targets))
    assert not transition_mass(lists.ranked, successors(bundle, unknown)).any()


def test_models_that_never_differ_leave_an_indicator_without_opinion() -> None:
    indicator = fit_indicator(np.empty((0, 3)), np.empty(0, dtype=np.bool_))
    assert indicator.probability(np.array([[5.0, -2.0, 1.0]])).tolist() == [0.5]
