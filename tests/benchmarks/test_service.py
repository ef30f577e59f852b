"""The whole benchmark at toy scale, against a real service."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.service import distilled_over_teacher, measure


def test_every_variant_is_measured_both_ways(bundle_path: Path) -> None:
    results = measure(bundle_path, (1, 3), 0.2, Console(quiet=True))
    cases = results["cases"]
    assert {case["concurrency"] for case in cases} == {1, 3}
    for case in cases:
        for side in (case["engine"], case["service"]):
            assert side["per_second"] > 0
            assert side["p99_ms"] >= side["p50_ms"] > 0
        assert case["added_p50_ms"] == pytest.approx(case["service"]["p50_ms"] - case["engine"]["p50_ms"])
    assert set(results["distilled_over_teacher"]) == {1, 3}


def test_the_ratio_of_the_ensembles_is_that_of_their_rates() -> None:
    cases = [
        {"variant": name, "concurrency": 4, "service": {"per_second": rate}}
        for name, rate in (("ensemble_tiger", 50.0), ("ensemble_sid_mlp", 225.0), ("tiger", 1.0))
    ]
    assert distilled_over_teacher(cases) == {4: 4.5}
