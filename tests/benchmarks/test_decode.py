"""The README's speed table is what the committed results say."""

import json
from pathlib import Path

import numpy as np

from benchmarks.agreement import overlap
from benchmarks.decode import overview
from benchmarks.flops import flops
from models.bundle import Bundle
from training.publish import Parts

ROOT = Path(__file__).parents[2]


def test_the_readme_holds_the_ratios_of_the_committed_run() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "decode.json").read_text())
    assert overview(results) in (ROOT / "README.md").read_text()
    assert all(case["equal_items"] > 0.999 for case in results["cases"])


def test_operations_are_those_of_the_networks_sizes(bundle: Bundle, parts: Parts) -> None:
    config, batch, length = parts.sasrec.config, 3, 5
    projections = 4 * config.d_model**2 + 2 * config.d_model * config.d_ff
    token = 2 * projections + 4 * length * config.d_model  # and each query against all keys, and all values
    expected = batch * (length * config.layers * token + 2 * config.d_model * config.items)
    history, allowed = np.ones((batch, length), dtype=np.int64), np.ones((batch, config.items + 1), dtype=np.bool_)
    assert flops(bundle.path / "sasrec.onnx", {"history": history, "allowed": allowed}) == expected


def test_overlap_is_the_share_of_the_best_that_both_have() -> None:
    ours, theirs = np.array([[1, 2, 3, 9], [1, 2, 3, 4]]), np.array([[3, 2, 4, 9], [2, 3, 1, 7]])
    assert overlap(ours, theirs, 3) == (2 / 3 + 1) / 2
