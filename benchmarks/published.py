"""Our NDCG@10 beside published figures, protocol by protocol, as Markdown.

    python -m benchmarks.published benchmarks/quality/amazon2014-*.json

A figure is only comparable under its own protocol: A does not mask the user's history, B does. Published figures use
the same data sets, leave-last-out, full ranking at item level; equal timestamps in the raw files' order unless noted.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from training.evaluate import ProtocolResults, Results, ensemble_row
from training.lists import Protocol
from training.table import LABELS, short


class Published(NamedTuple):
    """The best careful figure of others for one kind of model."""

    model: str
    protocol: Protocol
    ndcg_at_10: float
    source: str


MEMGEN, REPRODUCTION, TIGER_PAPER, MHL, BARGE = (
    "arXiv 2603.19809",
    "independent reproduction",
    "arXiv 2305.05065",
    "MHL",
    "BARGE",
)
PUBLISHED = {
    "amazon2014_beauty": (
        Published("sasrec", "A", 0.0436, MEMGEN),
        Published("sasrec", "B", 0.0539, REPRODUCTION),
        Published("tiger", "A", 0.0383, MEMGEN),
        Published("tiger", "B", 0.0346, f"{REPRODUCTION}, ties shuffled"),
        Published("ensemble", "A", 0.0476, MEMGEN),
        Published("best small", "A", 0.0547, f"{BARGE}, 19.9 M"),
    ),
    "amazon2014_sports": (
        Published("sasrec", "A", 0.0253, MEMGEN),
        Published("tiger", "A", 0.0237, MEMGEN),
        Published("ensemble", "A", 0.0296, MEMGEN),
        Published("best small", "A", 0.0308, f"{BARGE}, 19.9 M"),
    ),
    "amazon2014_toys": (
        Published("tiger", "A", 0.0432, TIGER_PAPER),
        Published("best small", "A", 0.0544, MHL),
    ),
}
NAMES = LABELS | {"ensemble": "ensemble", "best small": "best small model of anyone"}


def comparison(results: list[Results]) -> str:
    """One row for every model or ensemble of ours under each protocol, with its interval."""
    lines = [
        "| Data | Protocol | Model | N@10 | 95 % | Published | Source |",
        "| --- | --- | --- | ---: | --- | ---: | --- |",
    ]
    lines += [f"| {' | '.join(cells)} |" for found in results for cells in _rows(found)]
    return "\n".join(lines) + "\n"


def _rows(results: Results) -> Iterator[list[str]]:
    data = str(results.data["name"])
    for protocol, part in results.protocols.items():
        theirs = {p.model: p for p in PUBLISHED.get(data, ()) if p.protocol == protocol}
        for kind, row in _ours(results, part).items():
            estimate = part.rows[row].metrics["ndcg@10"]
            interval = f"{short(estimate.low)}–{short(estimate.high)}"
            yield [data, protocol, NAMES[row], f"**{short(estimate.value)}**", interval, *_cells(theirs.get(kind))]
        if "best small" in theirs:
            yield [data, protocol, NAMES["best small"], "", "", *_cells(theirs["best small"])]


def _ours(results: Results, part: ProtocolResults) -> dict[str, str]:
    """By kind of model the row to show: every single model, and the ensemble that serves and was best on validation."""
    ensembles = results.ensembles
    generative = max(ensembles, key=lambda name: ensembles[name].validation[ensembles[name].method])
    singles = {name: name for name in ("sasrec", *ensembles) if name in part.rows}
    return {**singles, "ensemble": ensemble_row(ensembles[generative].method, generative)}


def _cells(published: Published | None) -> list[str]:
    return ["", ""] if published is None else [short(published.ndcg_at_10), published.source]


def main() -> None:
    """Print the table for some result files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="JSON files that `tandem evaluate` or `train` wrote")
    paths = parser.parse_args().results
    print(comparison([Results.model_validate_json(path.read_text()) for path in paths]))


if __name__ == "__main__":
    main()
