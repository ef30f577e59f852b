"""Assignment: GrowthBook's published hash values, stability, and the split."""

import pytest

from service.experiments import assign, unit_interval

HALVES = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    ("seed", "value", "expected"),
    # From the test cases that GrowthBook publishes for its SDKs, hash version 2.
    [
        ("seed", "a", 0.0505),
        ("seed", "b", 0.2696),
        ("foo", "ab", 0.2575),
        ("foo", "def", 0.2019),
    ],
)
def test_the_hash_is_that_of_growthbook(seed: str, value: str, expected: float) -> None:
    assert unit_interval(seed, value) == expected


def test_the_split_follows_the_weights() -> None:
    weights = {"a": 0.2, "b": 0.5, "c": 0.3}
    found = [assign(weights, "salt", f"user-{n}") for n in range(20_000)]
    for name, share in weights.items():
        assert found.count(name) / len(found) == pytest.approx(share, abs=0.015)


def test_another_salt_deals_anew_independently() -> None:
    both = sum(assign(HALVES, "one", f"u{n}") == assign(HALVES, "two", f"u{n}") == "a" for n in range(20_000))
    assert both / 20_000 == pytest.approx(0.25, abs=0.015)


def test_raising_a_share_only_moves_users_into_it() -> None:
    for n in range(5_000):
        before, after = (assign({"a": share, "b": 1 - share}, "s", f"u{n}") for share in (0.3, 0.4))
        assert after == "a" or before == "b"


def test_a_variant_without_a_share_gets_nobody() -> None:
    users = [f"u{n}" for n in range(2_000)]
    assert {assign({"a": 0.0, "b": 1.0, "c": 0.0}, "s", user) for user in users} == {"b"}
    # Shares that sum to just under 1: whoever falls behind the last one still belongs to it.
    assert {assign({"a": 1.0 - 1e-7, "b": 0.0}, "s", user) for user in users} == {"a"}
    assert assign({"a": 0.0, "b": 1e-9}, "s", "u") == "b"
