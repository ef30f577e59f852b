"""The learned parts of an ensemble on planted signals."""

import numpy as np

from training.scorers import Examples, fit_candidates, fit_indicator

USERS, SLOTS, FEATURES = 300, 12, 5


def planted(seed: int = 0) -> Examples:
    """The next item is the one with the largest x0 * x1, a product that no linear score can express."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(USERS, SLOTS, FEATURES))
    real = random.random((USERS, SLOTS)) < 0.9
    value = np.where(real, features[..., 0] * features[..., 1], -np.inf)
    return Examples(features, real, value.argmax(axis=1), real.any(axis=1))


def hits(examples: Examples, scores: np.ndarray) -> float:
    return float((np.where(examples.real, scores, -np.inf).argmax(axis=1) == examples.target).mean())


def test_the_candidate_scorer_learns_what_a_linear_one_cannot() -> None:
    scorer = fit_candidates(planted())
    fresh = planted(seed=1)
    assert hits(fresh, scorer(fresh.candidates)) > 0.5 > 3 / SLOTS > hits(fresh, fresh.candidates @ scorer.linear)


def test_the_same_seed_gives_the_same_scorer_and_leaves_the_generator_alone() -> None:
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    one, two = fit_candidates(planted()), fit_candidates(planted())
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(one.hidden, two.hidden)


def test_requests_that_lack_the_next_item_teach_nothing() -> None:
    examples = planted()
    lacking = np.arange(USERS) % 3 == 0
    blurred = examples._replace(found=~lacking, target=np.where(lacking, 0, examples.target))
    one, two = fit_candidates(blurred), fit_candidates(examples.take(np.flatnonzero(~lacking)))
    np.testing.assert_array_equal(one.hidden, two.hidden)
    nothing = fit_candidates(examples._replace(found=np.zeros(USERS, dtype=bool)))
    assert not nothing(examples.candidates).any()


def test_the_indicator_is_calibrated() -> None:
    """Of the requests given a probability, about that share is what it says."""
    random = np.random.default_rng(0)
    features = random.normal(size=(4000, 3))
    truth = 1 / (1 + np.exp(-(1.5 * features[:, 0] - 0.5)))
    probability = fit_indicator(features[:2000], random.random(2000) < truth[:2000]).probability(features[2000:])
    happened = random.random(2000) < truth[2000:]
    for low in (0.1, 0.3, 0.5, 0.7):
        within = (probability >= low) & (probability < low + 0.2)
        assert abs(probability[within].mean() - happened[within].mean()) < 0.08


def test_an_indicator_of_one_sided_data_says_nothing() -> None:
    features = np.random.default_rng(0).normal(size=(10, 3))
    assert (fit_indicator(features, np.ones(10, dtype=bool)).probability(features) == 0.5).all()
