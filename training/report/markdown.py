"""The report as one Markdown page beside its plots."""

from collections.abc import Iterable, Mapping, Sequence

from training.lists import Protocol
from training.metrics import Estimate
from training.one_hop import KEPT, TOP
from training.report.build import ProtocolReport, Report
from training.report.prefixes import PrefixTable, codes
from training.report.slices import Slice
from training.report.statistics import Statistics
from training.report.strengths import PSI_LENGTH
from training.table import LABELS

METRICS = ("recall@5", "ndcg@5", "recall@10", "ndcg@10")


def markdown(report: Report) -> str:
    """The page; it expects the plots of `draw` in its own folder."""
    parts = [
        f"# {report.bundle} on {report.statistics.name}, {report.split}\n",
        f"Training: {', '.join(f'{name} {value}' for name, value in report.training.items())}. Intervals are 95 % "
        "bootstrap intervals over users. Definitions: [MemGen](https://arxiv.org/abs/2603.19809).\n",
        "## The data set\n",
        _statistics(report.statistics),
        "## What can be memorized\n",
        "*Memorization*: the held-out item followed the last history item somewhere in training. Each type of "
        "generalization counts at its smallest hop, so an instance may carry several.\n",
        _picture("Share of each category", "shares"),
        "The longest prefix of the held-out item's semantic id that training saw within four steps after the prefix of "
        "one of the last four history items, as a share of the category. All codes are the item itself.\n",
        _prefixes(report.prefixes_by_category),
        _picture("Longest memorized prefix by category", "prefixes"),
    ]
    for protocol, part in report.protocols.items():
        parts += _protocol(protocol, part)
    return "\n".join(parts)


def _protocol(protocol: Protocol, part: ProtocolReport) -> list[str]:
    single = list(next((found.ndcg_at_10 for found in part.categories.values() if found.n), {}))
    return [
        f"## Protocol {protocol}: {part.masking}\n",
        "### Models and ensembles\n",
        _grid(["", *(_metric(name) for name in METRICS), "95 % of N@10"], _metrics(part.metrics)),
        "Paired differences of N@10 over the same users:\n",
        _grid(["", "N@10", "95 %"], _differences(part.differences)),
        _picture("Paired differences", f"differences_{protocol}"),
        "### N@10 by category\n",
        _slices(part.categories, single),
        _picture("Groups of categories", f"groups_{protocol}"),
        _picture("Types by hop", f"hops_{protocol}"),
        "### N@10 by longest memorized prefix\n",
        _slices({codes(length): found for length, found in part.prefixes.items()}, single),
        "### Strength of the item and of the prefix transition\n",
        "Memorized items by quantile. φ is the share of the training transitions from the last item that lead to the "
        f"held-out one; ψ is the same for their prefixes of {PSI_LENGTH} codes.\n",
        _picture("Differences by φ and ψ", f"strengths_{protocol}"),
        "### Indicators\n",
        "Instances by quantile of each indicator, lowest first. A good one gathers memorization at the top, where "
        "SASRec overtakes.\n",
        *(_quantiles(name, part, single) for name in part.indicators),
        _picture("Indicators by quantile", f"indicators_{protocol}"),
        "### One hop from the whole history\n",
        f"The one-hop candidates of a user are the {KEPT} items that most often directly followed any history item in "
        "training ([Kim et al.](https://arxiv.org/abs/2606.17276)). *MB* users, who benefit from memorization, have "
        f"their held-out item among them. The one-hop ratio is the share of a model's top {TOP} among them.\n",
        _one_hop(part),
        _picture("MB and NMB users", f"one_hop_{protocol}"),
    ]


def _statistics(found: Statistics) -> str:
    rows = [
        ["users", f"{found.users:,}"],
        ["items", f"{found.items:,}"],
        ["interactions", f"{found.interactions:,}"],
        ["sparsity", f"{found.sparsity:.2%}"],
        [
            "length of a sequence: mean, median, longest",
            f"{found.mean_length:.2f}, {found.median_length:g}, {found.longest}",
        ],
        ["held-out instances", f"{found.instances:,}"],
        ["held-out items that training never saw", f"{found.unseen_targets:.2%}"],
        ["held-out items that repeat the history", f"{found.repeated_targets:.2%}"],
    ]
    return _grid(["", found.name], rows)


def _prefixes(table: PrefixTable) -> str:
    lengths = list(next(iter(table.values())))
    rows = []
    for label, columns in table.items():
        total = sum(columns.values())
        rows.append([label, f"{total:,}", *(_percent(count, total) for count in columns.values())])
    return _grid(["", "n", *map(codes, lengths)], rows)


def _metrics(metrics: Mapping[str, Mapping[str, Estimate]]) -> Iterable[list[str]]:
    for row, found in metrics.items():
        yield [_label(row), *(f"{found[name].value:.4f}" for name in METRICS), _interval(found["ndcg@10"])]


def _differences(differences: Mapping[str, Estimate]) -> Iterable[list[str]]:
    for name, found in differences.items():
        label = " − ".join(map(_label, name.split(" - ")))
        yield [label, f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]


def _slices(found: Mapping[str, Slice], models: Sequence[str]) -> str:
    rows = (
        [label, f"{one.n:,}", f"{one.share:.1%}", *(_cell(one.ndcg_at_10.get(model)) for model in models)]
        for label, one in found.items()
    )
    return _grid(["", "n", "share", *map(_label, models)], rows)


def _quantiles(name: str, part: ProtocolReport, models: Sequence[str]) -> str:
    rows = [
        [
            f"{one.low:.4f} to {one.high:.4f}",
            f"{one.n:,}",
            f"{one.memorization:.1%}",
            *(_cell(one.ndcg_at_10.get(model)) for model in models),
        ]
        for one in part.indicators[name]
    ]
    return _grid([f"`{name}`", "n", "memorization", *map(_label, models)], rows)


def _one_hop(part: ProtocolReport) -> str:
    header = ["", "one-hop ratio", *(f"N@10, {name} ({one.share:.1%} of users)" for name, one in part.one_hop.items())]
    rows = (
        [
            _label(row),
            _cell(part.one_hop_ratios.get(row)),
            *(_cell(one.ndcg_at_10.get(row)) for one in part.one_hop.values()),
        ]
        for row in part.metrics
    )
    return _grid(header, rows)


def _cell(estimate: Estimate | None) -> str:
    return f"{estimate.value:.4f} ± {(estimate.high - estimate.low) / 2:.4f}" if estimate else ""


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f} to {estimate.high:.4f}"


def _percent(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else ""


def _metric(name: str) -> str:
    kind, cutoff = name.split("@")
    return f"{kind[0].upper()}@{cutoff}"


def _label(row: str) -> str:
    return LABELS.get(row, row)


def _picture(text: str, name: str) -> str:
    return f"![{text}]({name}.png)\n"


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column left-aligned, the others right."""
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
