"""Evaluation results as Markdown and as a picture, so that no figure in the docs is typed by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.bundle import GENERATIVE
from models.categories import GROUPS
from models.ensemble import EnsembleParameters, Method
from training.evaluate import ProtocolResults, Results, Row, ensemble_row
from training.metrics import Estimate

_MODELS = {
    "popularity": "Popularity",
    "sasrec": "SASRec",
    "tiger": "TIGER",
    "sid_mlp": "SID-MLP",
    "sid_mlp_pp": "SID-MLP++",
}
_METHODS: Mapping[Method, str] = {
    "fixed": "fixed weight",
    "msp": "weight by msp",
    "transition": "weight by transition",
    "learned": "weight by learned indicator",
    "candidates": "candidate by candidate",
}
LABELS = _MODELS | {
    ensemble_row(method, name): f"SASRec + {_MODELS[name]}, {label}"
    for name in GENERATIVE
    for method, label in _METHODS.items()
}


def markdown(results: Results) -> str:
    """One table a protocol, with what a reader must know to compare the figures with others."""
    data = results.data
    parts = [
        f"# {results.bundle} on {data['name']}\n",
        f"{data['users']:,} users, {data['items']:,} items, {data['interactions']:,} interactions; "
        f"{data['instances']:,} {results.split} instances.\n",
        f"- Training: {', '.join(f'{name} {value}' for name, value in results.training.items())}.\n"
        f"- Ranking: {results.ranking}.\n- Equal times: {data['equal_timestamps']}.\n- Ties: {results.ties}.\n"
        f"- Intervals: {results.intervals}.\n" + _int8(results),
    ]
    for protocol, part in results.protocols.items():
        parts += [f"## Protocol {protocol}: {part.masking}\n", _table(part), _differences(part)]
    parts.append("## Ensembles, fitted on validation\n")
    parts += [_fitted(name, ensemble) for name, ensemble in results.ensembles.items()]
    return "\n".join(parts) + "\n"


def _int8(results: Results) -> str:
    """What int8 costs, one line for all graphs that have it."""
    entries = results.int8_on_validation
    if not entries:
        return ""
    found = [
        f"{_MODELS[name]} {short(entry.ndcg_at_10)} for {short(entry.ndcg_at_10_fp32)} ({-entry.loss:+.2%})"
        for name, entry in entries.items()
    ]
    users = next(iter(entries.values())).users  # the same for all graphs of a bundle
    return f"- N@10 in int8, for that in float32, on {users:,} validation users (B): {', '.join(found)}.\n"


def _fitted(generative: str, ensemble: EnsembleParameters) -> str:
    """What was fitted for one generative model, a line a method."""
    served = _METHODS[ensemble.method]
    lines = [f"SASRec + {_MODELS[generative]}: the service uses {served}. N@10 on validation users:\n"]
    for method, value in ensemble.validation.items():
        detail = f", {ensemble.alpha:.1f}" if method == "fixed" else ""
        if method != "fixed" and method != "candidates":
            sigmoid = ensemble.weights[method]
            detail = f", sigmoid({sigmoid.k:g} · ({method} − {sigmoid.tau:g}))"
        lines.append(f"- {_METHODS[method]}{detail}: {short(value)}{_normalised(method, ensemble)}")
    return "\n".join(lines) + "\n"


def _normalised(method: Method, ensemble: EnsembleParameters) -> str:
    """What the method weighs, beside what it would reach with the other."""
    found = {name: values[method] for name, values in ensemble.by_normalisation.items() if method in values}
    chosen = ensemble.using(method).normalisation
    others = [f"by {name} {short(value)}" for name, value in found.items() if name != chosen]
    return f" by {chosen} ({', '.join(others)})" if others else ""


def _table(part: ProtocolResults) -> str:
    groups = [name for name in GROUPS if any(name in row.groups for row in part.rows.values())]
    shares = {name: next(iter(part.rows.values())).groups[name].n for name in groups}
    total = sum(shares.values())
    header = ["Model", "R@5", "N@5", "R@10", "N@10", "95 % of N@10"]
    header += [f"N@10, {name} ({share / total:.1%})" for name, share in shares.items()]
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    lines += [f"| {' | '.join([LABELS.get(name, name), *_cells(row, groups)])} |" for name, row in part.rows.items()]
    return "\n".join(lines) + "\n"


def _cells(row: Row, groups: list[str]) -> list[str]:
    metrics = [short(row.metrics[name].value) for name in ("recall@5", "ndcg@5", "recall@10", "ndcg@10")]
    interval = row.metrics["ndcg@10"]
    return [
        *metrics,
        f"{short(interval.low)}–{short(interval.high)}",
        *(short(row.groups[name].ndcg_at_10.value) for name in groups),
    ]


def _differences(part: ProtocolResults) -> str:
    lines = ["Paired differences of N@10 over the same users:\n"]
    lines += [f"- {name}: {_signed(difference)}" for name, difference in part.ndcg_at_10_differences.items()]
    return "\n".join(lines) + "\n"


def stages(epochs: Sequence[int]) -> str:
    """The epochs of each stage of a training."""
    return " + ".join(map(str, epochs))


def short(value: float) -> str:
    """A metric below 1, with four digits and without the zero in front."""
    return f"{value:.4f}".replace("0.", ".", 1)


def _signed(estimate: Estimate) -> str:
    value, low, high = (f"{number:+.4f}" for number in estimate)
    return f"{value} [{low}, {high}]"


def plot(results: Results, path: Path) -> None:
    """Draw NDCG@10 of every row with its interval, one panel a protocol, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results.protocols), figsize=(12, 4.8), sharey=True, layout="constrained")
    for panel, (protocol, part) in zip(panels, results.protocols.items(), strict=True):
        names = list(part.rows)[::-1]
        estimates = [part.rows[name].metrics["ndcg@10"] for name in names]
        values = [estimate.value for estimate in estimates]
        errors = [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]
        colours = ["#b7c4d4" if name in _MODELS else "#2b6cb0" for name in names]
        panel.barh([LABELS.get(name, name) for name in names], values, xerr=errors, color=colours, capsize=3)
        panel.set_title(f"Protocol {protocol}: {part.masking}", fontsize=10)
        panel.set_xlabel("NDCG@10, 95 % interval")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
    figure.suptitle(f"{results.bundle} on {results.data['name']}, {results.split}", fontsize=11)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
