"""The README's speed table is what the committed results say, and the catalogue behind it is as described."""

import json
from pathlib import Path

import numpy as np

from benchmarks.catalogues import NODES, beauty_like
from benchmarks.decode import overview
from models.trie import Trie

ROOT = Path(__file__).parents[2]


def test_the_readme_holds_the_ratios_of_the_committed_run() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "decode.json").read_text())
    assert overview(results) in (ROOT / "README.md").read_text()
    assert all(case["equal_items"] > 0.999 for case in results["cases"])


def test_the_catalogue_has_the_fan_out_it_claims() -> None:
    codes = beauty_like()
    trie = Trie.build(codes)
    assert tuple(len(level) for level in trie.code) == NODES
    assert len(np.unique(codes[1:], axis=0)) == NODES[-1]
