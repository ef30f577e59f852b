"""How a measurement is reported: latencies by percentile, and one JSON document as the last line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds, to the microsecond; nothing for no latencies."""
    if not seconds:
        return {}
    return {f"p{q}_ms": round(float(np.percentile(seconds, q)) * 1e3, 3) for q in (50, 99)}


def emit(results: Mapping[str, Any], path: Path | None) -> None:
    """Print the results, and write them to `path` if there is one."""
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results))
