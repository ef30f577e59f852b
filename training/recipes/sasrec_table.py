"""A comparison of SASRec's recipes as Markdown and JSON."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from models.networks.sasrec import SASRecConfig
from training.evaluate import INTERVALS, RANKING, Split
from training.lists import PROTOCOLS, Protocol
from training.loop import FitOptions
from training.metrics import Estimate
from training.recipes.variants_table import interval
from training.table import short

LABELS = {"ndcg@10": "N@10", "recall@10": "R@10"}


class Run(BaseModel):
    """One training."""

    seed: int
    epochs: int
    """Until the early stop, or all."""
    best_epoch: int
    minutes: float


class Training(BaseModel):
    """A recipe, and the trainings by it."""

    recipe: str
    network: SASRecConfig
    fit: FitOptions
    parameters: int
    runs: Sequence[Run]


class Measure(BaseModel):
    """A metric of a recipe."""

    seeds: Sequence[float]
    """The mean over users, one a seed."""
    deviation: float | None
    """The sample standard deviation of `seeds`; None for a single one."""
    estimate: Estimate
    """Over users; the value of a user is its mean over seeds."""


class Row(BaseModel):
    """One recipe on one split under one protocol, by metric."""

    recipe: str
    split: Split
    protocol: Protocol
    metrics: Mapping[str, Measure]


class Recipes(BaseModel):
    """The whole experiment."""

    data: str
    instances: int
    """Of each split."""
    items: int
    preset: str
    seeds: Sequence[int]
    machine: str
    bf16: bool
    """Whether training multiplied matrices in it; ranking is in float32."""
    ranking: str = RANKING
    protocols: Mapping[Protocol, str] = PROTOCOLS
    intervals: str = INTERVALS
    trainings: Sequence[Training]
    rows: Sequence[Row]


def markdown(found: Recipes) -> str:
    """How each recipe trained, then one table a split and protocol."""
    seeds, precision = ", ".join(map(str, found.seeds)), "bf16" if found.bf16 else "float32"
    parts = [
        f"SASRec on {found.data}, preset `{found.preset}`, seeds {seeds}: {found.instances:,} instances a split, "
        f"{found.items:,} items.\n",
        f"- Ranking: {found.ranking}.\n- Intervals: {found.intervals}, of each user's mean over seeds.\n"
        f"- ±: standard deviation over seeds.\n- Machine: {found.machine}; trained in {precision}.\n",
        _trainings(found),
    ]
    for training in found.trainings:
        parts.append(f"- `{training.recipe}`: {_options(training.network)}; {_options(training.fit)}.")
    for split, protocol in dict.fromkeys((row.split, row.protocol) for row in found.rows):
        parts += [f"\n## {split}, protocol {protocol}: {found.protocols[protocol]}\n", _table(found, split, protocol)]
    return "\n".join(parts) + "\n"


def _trainings(found: Recipes) -> str:
    lines = ["| recipe | weights | epochs, by seed | best epoch | minutes |", f"| --- |{' ---: |' * 4}"]
    for training in found.trainings:
        columns = zip(*((run.epochs, run.best_epoch, run.minutes) for run in training.runs), strict=True)
        cells = (" ".join(f"{value:g}" for value in column) for column in columns)
        lines.append(f"| {training.recipe} | {training.parameters:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _options(options: SASRecConfig | FitOptions) -> str:
    return ", ".join(f"{name} {value}" for name, value in vars(options).items())


def _table(found: Recipes, split: Split, protocol: Protocol) -> str:
    header = ["recipe"]
    for label in LABELS.values():
        header += [f"{label}, by seed", "mean ±", "mean [95 %]"]
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    for row in found.rows:
        if (row.split, row.protocol) == (split, protocol):
            cells = [cell for name in LABELS for cell in _cells(row.metrics[name])]
            lines.append(f"| {row.recipe} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(measure: Measure) -> tuple[str, str, str]:
    spread = "" if measure.deviation is None else f" ± {short(measure.deviation)}"
    mean = short(measure.estimate.value)
    return " ".join(map(short, measure.seeds)), f"{mean}{spread}", interval(measure.estimate)
