"""What the ensembles gain, over data sets: one row for each pair of models that a bundle fuses."""

from collections.abc import Iterator, Sequence

from training.evaluate import ProtocolResults, Results, ensemble_row
from training.lists import Protocol
from training.metrics import Estimate
from training.table import LABELS, short

HEADER = (
    *("SASRec with", "SASRec", "the model", "fixed weight", "weight by msp", "what serves"),
    *("msp − fixed", "serves − fixed", "serves over the better / over fixed"),
)


def comparison(results: Sequence[Results], protocol: Protocol) -> str:
    """NDCG@10 as a Markdown table: both models alone, a fixed weight, the paper's weight, and what serves.

    Differences are paired over users, in units of .0001 with their 95 % interval; the last column is the gain of what
    serves over the better model alone, and over the fixed weight.
    """
    lines = [f"| {' | '.join(HEADER)} |", f"| --- |{' ---: |' * (len(HEADER) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for found in results for row in _rows(found, found.protocols[protocol])]
    return "\n".join(lines) + "\n"


def _rows(results: Results, part: ProtocolResults) -> Iterator[list[str]]:
    def ndcg(name: str) -> float:
        return part.rows[name].metrics["ndcg@10"].value

    for name, ensemble in results.ensembles.items():
        fixed, msp, serves = (ensemble_row(method, name) for method in ("fixed", "msp", ensemble.method))
        better = max(ndcg("sasrec"), ndcg(name))
        yield [
            f"{LABELS[name]}, {results.data['name']}",
            *(short(ndcg(row)) for row in ("sasrec", name, fixed, msp, serves)),
            *(_difference(part.ndcg_at_10_differences.get(f"{row} - {fixed}")) for row in (msp, serves)),
            f"{ndcg(serves) / better - 1:+.1%} / {ndcg(serves) / ndcg(fixed) - 1:+.1%}",
        ]


def _difference(estimate: Estimate | None) -> str:
    """Empty where a row would be compared with itself."""
    if estimate is None:
        return ""
    value, low, high = (f"{number * 1e4:+.0f}" for number in estimate)
    return f"{value} [{low}, {high}]"
