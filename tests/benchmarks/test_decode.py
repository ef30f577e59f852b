"""The README's speed table is what the committed results say."""

import json
from pathlib import Path

from benchmarks.decode import overview

ROOT = Path(__file__).parents[2]


def test_the_readme_holds_the_ratios_of_the_committed_run() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "decode.json").read_text())
    assert overview(results) in (ROOT / "README.md").read_text()
    assert all(case["equal_items"] > 0.999 for case in results["cases"])
