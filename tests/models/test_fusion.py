"""Every method of the ensemble against its definition, one request at a time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.context import Context
from models.ensemble import NORMALISATIONS, EnsembleParameters, Method, Normalisation, Sigmoid, align, fuse, weight
from models.errors import BundleError
from models.features import Lists, compute
from models.fusion import Fusion, Learned
from models.graphs import Generated, Graphs
from models.histories import allow_all_but
from models.indicators import Ranked, transition_mass
from tests.bundles import ITEMS, random_learned

WEIGHTS = {name: Sigmoid(k=9.0, tau=tau) for name, tau in (("msp", 0.02), ("transition", 0.1), ("learned", 0.5))}


@pytest.fixture(scope="module")
def contexts(bundle: Bundle) -> list[Context]:
    random = np.random.default_rng(5)
    histories = [(random.permutation(ITEMS)[: random.integers(1, 9)] + 1).tolist() for _ in range(20)]
    return [Context.of(history, bundle.transitions) for history in histories]


@pytest.fixture(scope="module")
def answers(graphs: Graphs, contexts: list[Context]) -> tuple[Ranked, Generated]:
    histories = [context.history for context in contexts]
    allowed = allow_all_but(histories, ITEMS)
    return graphs.rank(histories, allowed), graphs.generate("tiger", histories, allowed)


def fusion(bundle: Bundle, method: Method, normalisation: Normalisation = "score") -> Fusion:
    by_rank = (method,) if normalisation == "rank" else ()
    parameters = EnsembleParameters(method=method, alpha=0.3, weights=WEIGHTS, by_rank=by_rank)
    return Fusion(parameters, random_learned(), bundle.facts)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("method", ["fixed", "msp", "transition", "learned"])
def test_a_method_by_weight_is_the_weighted_fusion(
    bundle: Bundle,
    contexts: list[Context],
    answers: tuple[Ranked, Generated],
    method: Method,
    normalisation: Normalisation,
) -> None:
    ranked, generated = answers
    verdict = fusion(bundle, method, normalisation)(ranked, generated, contexts)
    features = compute(Lists.of(ranked, generated), align(ranked[:2], generated), contexts, bundle.facts)
    successors = [bundle.transitions.row("forward", context.history[-1]).neighbours[0] for context in contexts]
    values = {
        "fixed": ranked.msp,
        "msp": ranked.msp,
        "transition": transition_mass(ranked, successors),
        "learned": random_learned().indicator.probability(features.request),
    }[method]
    alpha = np.full(len(contexts), 0.3) if method == "fixed" else weight(WEIGHTS[method], values)
    expected = fuse(ranked[:2], generated, alpha, normalisation)
    assert verdict.indicator == ("msp" if method == "fixed" else method)
    np.testing.assert_allclose(verdict.value, values)
    np.testing.assert_array_equal(verdict.alpha, alpha)
    np.testing.assert_array_equal(verdict.fused.items, expected.items)
    assert len(set(alpha.tolist())) > 1 or method == "fixed"


def test_candidates_are_sorted_by_their_own_scores(
    bundle: Bundle, contexts: list[Context], answers: tuple[Ranked, Generated]
) -> None:
    ranked, generated = answers
    aligned = align(ranked[:2], generated)
    features = compute(Lists.of(ranked, generated), aligned, contexts, bundle.facts)
    verdict = fusion(bundle, "candidates")(ranked, generated, contexts)
    assert verdict.alpha is None
    for row in range(len(contexts)):
        logits = random_learned().candidates(features.candidates[row])
        by_score = sorted(
            (slot for slot in range(len(logits)) if aligned.items[row, slot]), key=lambda slot: -logits[slot]
        )
        expected = aligned.items[row, by_score].tolist()
        assert verdict.fused.items[row, : len(expected)].tolist() == expected
        assert not verdict.fused.items[row, len(expected) :].any()
        scores = verdict.fused.scores[row, : len(expected)]
        exponentials = np.exp(logits[by_score])
        np.testing.assert_allclose(scores, exponentials / exponentials.sum())
        assert np.isneginf(verdict.fused.scores[row, len(expected) :]).all()


def test_two_empty_lists_fuse_to_nothing(bundle: Bundle, contexts: list[Context]) -> None:
    items, scores = np.zeros((1, 4), dtype=np.int64), np.full((1, 4), -np.inf, dtype=np.float32)
    ranked = Ranked(items, scores, np.full(1, 0.1, dtype=np.float32), np.ones(1, dtype=np.float32))
    for method in ("fixed", "learned", "candidates"):
        verdict = fusion(bundle, method)(ranked, Generated(items, scores), contexts[:1])
        assert not verdict.fused.items.any()
        assert np.isfinite(verdict.value).all()


def test_learned_parts_survive_being_stored_and_damage_is_refused(tmp_path: Path) -> None:
    learned, path = random_learned(), tmp_path / "fusion.npz"
    learned.save(path)
    first = path.read_bytes()
    Learned.load(path).save(path)
    assert path.read_bytes() == first
    path.write_bytes(first[:200])
    with pytest.raises(BundleError, match=r"fusion\.npz must be an npz archive"):
        Learned.load(path)


def test_a_method_without_its_learned_parts_is_refused(
    bundle: Bundle, contexts: list[Context], answers: tuple[Ranked, Generated]
) -> None:
    with pytest.raises(BundleError, match="method candidates needs learned weights"):
        replace(fusion(bundle, "candidates"), learned=None)(*answers, contexts)
