"""The results table of a bundle: every model and ensemble, both protocols, with intervals and by category."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle, Int8Entry
from models.categories import GROUPS, categorize
from models.ensemble import METHODS, EnsembleParameters, Method
from models.errors import DataError
from models.graphs import Graphs
from models.precision import Precision
from models.sessions import Execution
from training.data.dataset import Dataset, Instances
from training.fusion import ensemble_ranks
from training.lists import PROTOCOLS, Lists, Protocol, collect, popular
from training.metrics import Estimate, Ranks, bootstrap, ndcg, per_user, ranks, summary

Split = Literal["valid", "test"]
TRAINING = ("preset", "seed", "embedder", "bf16", "machine", "minutes")
CONFIGURATION = ("networks", "tokenizer", "runs")
RANKING = "full catalogue, item level, leave-last-out"
INTERVALS = "95 % bootstrap over users, 1000 resamples, seed 0"
TIE_ORDER = "stable: SASRec's list first, then the generative one, each best first"


class Group(BaseModel):
    """The instances of one category."""

    n: int
    ndcg_at_10: Estimate


class Row(BaseModel):
    """One model or ensemble under one protocol."""

    metrics: Mapping[str, Estimate]
    groups: Mapping[str, Group]


class ProtocolResults(BaseModel):
    """All rows of one protocol, and paired differences of NDCG@10 over the same users."""

    masking: str
    rows: Mapping[str, Row]
    ndcg_at_10_differences: Mapping[str, Estimate]


class Results(BaseModel):
    """What `tandem evaluate` writes."""

    bundle: str
    training: Mapping[str, Any]
    configuration: Mapping[str, Any] = {}  # sizes of the networks, quality of the semantic ids, epochs and seconds
    data: Mapping[str, Any]
    split: Split
    ranking: str
    ties: str
    intervals: str
    int8: Sequence[str] = ()  # graphs that ran in int8; the others ran in fp32
    int8_on_validation: Mapping[str, Int8Entry] = {}  # what the bundle says of its int8 graphs
    ensembles: Mapping[str, EnsembleParameters]
    protocols: Mapping[Protocol, ProtocolResults]


def evaluate(
    bundle: Bundle, dataset: Dataset, split: Split, console: Console, precision: Precision = "fp32"
) -> Results:
    """Measure everything in `bundle` on one split of the data set it was trained on.

    Raises:
        BundleError: precision int8 is wanted of a bundle without int8 graphs.
        DataError: the bundle's catalogue is not that of the data set, so its indexes mean other items.
    """
    check_catalogue(bundle, dataset)
    instances = dataset.instances(split)
    graphs = Graphs(bundle, Execution(precision=precision))
    groups = categorize(bundle.transitions, instances.histories, instances.targets).group()
    protocols = {
        protocol: _results(bundle, collect(graphs, instances, protocol, console), instances, protocol, groups)
        for protocol in PROTOCOLS
    }
    return Results(
        bundle=bundle.identity,
        training={name: value for name, value in bundle.manifest.training.items() if name in TRAINING},
        configuration={name: value for name, value in bundle.manifest.training.items() if name in CONFIGURATION},
        data={
            "name": dataset.name,
            "users": len(dataset.user_ids),
            "items": dataset.num_items,
            "interactions": int(sum(map(len, dataset.sequences))),
            "instances": len(instances.targets),
            "equal_timestamps": dataset.report.tie_rule,
        },
        split=split,
        ranking=RANKING,
        ties=TIE_ORDER,
        intervals=INTERVALS,
        int8=[name for name, choice in graphs.choices.items() if choice.precision == "int8"],
        int8_on_validation={name: entry.int8 for name, entry in bundle.manifest.graphs.items() if entry.int8},
        ensembles=bundle.manifest.ensembles,
        protocols=protocols,
    )


def check_catalogue(bundle: Bundle, dataset: Dataset) -> None:
    """Refuse a data set whose items are not, in order, the bundle's."""
    theirs = dataset.items["item_id"].to_pylist()
    if list(bundle.catalogue.item_ids) != theirs:
        raise DataError(
            f"a bundle is evaluated on the data set it was trained on; {bundle.identity} has {bundle.catalogue.size} "
            f"items, {dataset.name} has {len(theirs)}, and their ids differ. Pass the training data as --data."
        )


def _results(
    bundle: Bundle, lists: Lists, instances: Instances, protocol: Protocol, groups: NDArray[np.str_]
) -> ProtocolResults:
    found = all_ranks(bundle, lists, instances, protocol)
    values = {name: ndcg(rank, 10) for name, rank in found.items()}
    return ProtocolResults(
        masking=PROTOCOLS[protocol],
        rows={name: _row(rank, groups) for name, rank in found.items()},
        ndcg_at_10_differences=_differences(bundle, values),
    )


def _differences(bundle: Bundle, values: Mapping[str, NDArray[np.float64]]) -> dict[str, Estimate]:
    """Every ensemble against the better single model, and against its fixed weight."""
    found = {}
    for name in bundle.fusions:
        better = max(("sasrec", name), key=lambda single: float(values[single].mean()))
        for method in methods(bundle, name):
            for other in (better, ensemble_row("fixed", name)):
                row = ensemble_row(method, name)
                if row != other:
                    found[f"{row} - {other}"] = bootstrap(values[row] - values[other])
    return found


def ensemble_row(method: Method, generative: str) -> str:
    """The name of an ensemble's row."""
    return f"{method}_{generative}"


def methods(bundle: Bundle, generative: str) -> list[Method]:
    """The methods that the bundle has fitted for a generative model, simplest first."""
    fitted = bundle.manifest.ensembles[generative].validation
    return [method for method in METHODS if method in fitted or method == "fixed"]


def all_ranks(bundle: Bundle, lists: Lists, instances: Instances, protocol: Protocol) -> dict[str, Ranks]:
    """Ranks of the targets under popularity, every model, and every method of every ensemble."""
    targets = instances.targets
    found = {
        "popularity": ranks(popular(bundle, instances, protocol), targets),
        "sasrec": ranks(lists.ranked.items, targets),
        **{name: ranks(generated.items, targets) for name, generated in lists.generated.items()},
    }
    for name in lists.generated:
        by_method = ensemble_ranks(bundle, name, methods(bundle, name), lists, instances)
        found |= {ensemble_row(method, name): rank for method, rank in by_method.items()}
    return found


def _row(rank: Ranks, groups: NDArray[np.str_]) -> Row:
    values = per_user(rank)["ndcg@10"]
    by_group = {
        name: Group(n=int((groups == name).sum()), ndcg_at_10=bootstrap(values[groups == name])) for name in GROUPS
    }
    return Row(metrics=summary(rank), groups={name: group for name, group in by_group.items() if group.n})


def print_results(results: Results, console: Console) -> None:
    """One table a protocol."""
    for protocol, part in results.protocols.items():
        table = Table(title=f"{results.bundle} on {results.data['name']}, protocol {protocol} ({part.masking})")
        table.add_column("model")
        for column in ("R@5", "N@5", "R@10", "N@10", "95 %", *GROUPS):
            table.add_column(column, justify="right")
        for name, row in part.rows.items():
            ndcg10 = row.metrics["ndcg@10"]
            numbers = [row.metrics[m].value for m in ("recall@5", "ndcg@5", "recall@10", "ndcg@10")]
            by_group = [f"{row.groups[g].ndcg_at_10.value:.4f}" if g in row.groups else "" for g in GROUPS]
            table.add_row(name, *(f"{n:.4f}" for n in numbers), f"{ndcg10.low:.4f} to {ndcg10.high:.4f}", *by_group)
        console.print(table)
