"""Features of real answers of the tiny bundle against their definitions, one candidate at a time."""

import math

import numpy as np
import pytest

from models.bundle import Bundle
from models.context import Context
from models.ensemble import Aligned, align
from models.features import CANDIDATE_FEATURES, REQUEST_FEATURES, Features, Lists, compute
from models.graphs import Generated, Graphs
from models.histories import allow_all_but
from models.indicators import Ranked
from tests.bundles import ITEMS

Answers = tuple[list[list[int]], Ranked, Generated, Aligned, Features]


@pytest.fixture(scope="module")
def answers(bundle: Bundle, graphs: Graphs) -> Answers:
    random = np.random.default_rng(5)
    histories = [(random.permutation(ITEMS)[: random.integers(1, 9)] + 1).tolist() for _ in range(20)]
    allowed = allow_all_but(histories, ITEMS)
    ranked, generated = graphs.rank(histories, allowed), graphs.generate("tiger", histories, allowed)
    aligned = align(ranked[:2], generated)
    contexts = [Context.of(history, bundle.transitions) for history in histories]
    return histories, ranked, generated, aligned, compute(Lists.of(ranked, generated), aligned, contexts, bundle.facts)


def test_a_candidates_features_follow_their_definitions(answers: Answers, bundle: Bundle) -> None:
    histories, ranked, generated, aligned, features = answers
    for row, history in enumerate(histories):
        last = bundle.transitions.row("forward", history[-1])
        followers = dict(zip(last.neighbours[0].tolist(), last.counts[0].tolist(), strict=True))
        places = {int(item): place for place, item in enumerate(ranked.items[row]) if item}
        logp = ranked.scores[row].astype(float) - float(ranked.log_partition[row])
        for slot, item in enumerate(aligned.items[row].tolist()):
            if not item:
                continue
            found = dict(zip(CANDIDATE_FEATURES, features.candidates[row, slot].tolist(), strict=True))
            assert found["sasrec_listed"] == (item in places)
            assert found["sasrec_score"] == pytest.approx(logp[places[item]] if item in places else logp.min() - 0.5)
            assert found["generative_listed"] == (item in generated.items[row])
            assert found["after_last"] == pytest.approx(math.log1p(followers.get(item, 0)))
            assert found["strength"] == pytest.approx(followers.get(item, 0) / max(sum(followers.values()), 1))
            assert found["popularity"] == pytest.approx(math.log1p(bundle.popularity[item]))
            assert found["history"] == pytest.approx(math.log1p(len(history)))
            for length in (1, 2):
                transitions = bundle.facts.prefixes[length - 1].transitions
                strength = transitions.strength(np.array(history[-1]), np.array(item))
                assert found[f"prefix_strength_{length}"] == pytest.approx(float(strength))
                siblings = [
                    other
                    for other in range(1, ITEMS + 1)
                    if (bundle.catalogue.codes[other, :length] == bundle.catalogue.codes[item, :length]).all()
                ]
                total = sum(bundle.popularity[other] for other in siblings)
                assert found[f"prefix_popularity_{length}"] == pytest.approx(math.log1p(total))
            assert found["prefix_strength_3"] == 0  # three levels: the third prefix is the item itself


def test_a_requests_features_follow_their_definitions(answers: Answers, bundle: Bundle) -> None:
    histories, ranked, generated, _, features = answers
    for row, history in enumerate(histories):
        found = dict(zip(REQUEST_FEATURES, features.request[row].tolist(), strict=True))
        probability = np.exp(ranked.scores[row].astype(float) - float(ranked.log_partition[row]))
        last = bundle.transitions.row("forward", history[-1])
        assert found["sasrec_best"] == pytest.approx(probability.max())
        share = probability / probability.sum()
        assert found["sasrec_entropy"] == pytest.approx(-(share * np.log(share)).sum())
        assert found["generative_best"] == pytest.approx(math.exp(generated.scores[row].max()))
        common = set(ranked.items[row, :10].tolist()) & set(generated.items[row, :10].tolist())
        assert found["agreement"] == pytest.approx(len(common) / 10)
        for hop in range(1, 5):
            mass = sum(
                p for p, item in zip(probability, ranked.items[row], strict=True) if item in last.neighbours[hop - 1]
            )
            assert found[f"transition_mass_{hop}"] == pytest.approx(mass)
        top = int(generated.items[row, 0])
        counts = last.adjacent_counts(np.array([top]))
        assert found["strength_generative"] == pytest.approx(counts[0] / max(last.counts[0].sum(), 1))


def test_features_do_not_depend_on_the_batch(answers: Answers, bundle: Bundle) -> None:
    histories, ranked, generated, aligned, features = answers
    for row, history in enumerate(histories):
        one = slice(row, row + 1)
        alone = compute(
            Lists.of(Ranked(*(values[one] for values in ranked)), Generated(*(values[one] for values in generated))),
            Aligned(*(values[one] for values in aligned)),
            [Context.of(history, bundle.transitions)],
            bundle.facts,
        )
        np.testing.assert_array_equal(alone.candidates, features.candidates[one])
        np.testing.assert_array_equal(alone.request, features.request[one])
