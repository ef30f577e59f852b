"""Measures everything the report shows. The graphs run once a protocol; that is the slow part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console

from models.bundle import Bundle
from models.categories import Categories, categorize
from models.graphs import Graphs
from models.prefixes import prefix_transitions
from models.token_memorization import TokenMemorization, memorize
from training.data.dataset import Dataset, Instances
from training.evaluate import TRAINING, Split, _differences, all_ranks, check_catalogue
from training.lists import PROTOCOLS, Lists, Protocol, collect, popular
from training.metrics import Estimate, bootstrap, ndcg, summary
from training.one_hop import benefits_from_memorization, one_hop_candidates, one_hop_ratio
from training.report.indicators import Quantile, indicator_values, quantiles
from training.report.prefixes import PrefixTable, by_prefix, prefixes_by_category
from training.report.slices import Slice, by_category, slices
from training.report.statistics import Statistics, statistics
from training.report.strengths import PSI_LENGTH, Strengths, strength_map, transition_strength


class ProtocolReport(BaseModel):
    """Everything that depends on what the models may answer. Models and ensembles go by their row's name."""

    masking: str
    metrics: Mapping[str, Mapping[str, Estimate]]  # by row, by metric
    differences: Mapping[str, Estimate]  # of NDCG@10, over the same users
    categories: Mapping[str, Slice]  # single models only
    prefixes: Mapping[str, Slice]  # by longest memorized prefix; single models only
    strengths: Mapping[str, Strengths]  # by generative model
    indicators: Mapping[str, list[Quantile]]  # single models only
    one_hop: Mapping[str, Slice]  # MB and NMB users
    one_hop_ratios: Mapping[str, Estimate]  # of single models


class Report(BaseModel):
    """What `tandem report` writes as report.json."""

    bundle: str
    training: Mapping[str, Any]
    split: Split
    statistics: Statistics
    prefixes_by_category: PrefixTable
    protocols: Mapping[Protocol, ProtocolReport]


@dataclass(frozen=True)
class _Subject:
    """What the measurements of both protocols share; arrays over the instances."""

    bundle: Bundle
    instances: Instances
    categories: Categories
    tokens: TokenMemorization
    phi: NDArray[np.float64]
    psi: NDArray[np.float64]
    one_hop: NDArray[np.int64]


def build(bundle: Bundle, dataset: Dataset, split: Split, console: Console) -> Report:
    """Measure `bundle` on one split of the data set it was trained on.

    Raises:
        DataError: the bundle's catalogue is not that of the data set, so its indexes mean other items.
    """
    check_catalogue(bundle, dataset)
    subject = _subject(bundle, dataset.instances(split))
    graphs = Graphs(bundle)
    return Report(
        bundle=bundle.identity,
        training={name: value for name, value in bundle.manifest.training.items() if name in TRAINING},
        split=split,
        statistics=statistics(dataset, subject.instances),
        prefixes_by_category=prefixes_by_category(subject.categories, subject.tokens),
        protocols={
            protocol: _measure(subject, collect(graphs, subject.instances, protocol, console), protocol)
            for protocol in PROTOCOLS
        },
    )


def _subject(bundle: Bundle, instances: Instances) -> _Subject:
    prefixes = prefix_transitions(bundle.transitions, bundle.catalogue.codes)
    return _Subject(
        bundle=bundle,
        instances=instances,
        categories=categorize(bundle.transitions, instances.histories, instances.targets),
        tokens=memorize(prefixes, instances.histories, instances.targets),
        phi=transition_strength(prefixes[-1], instances),
        psi=transition_strength(prefixes[PSI_LENGTH - 1], instances),
        one_hop=one_hop_candidates(bundle.transitions, instances.histories),
    )


def _measure(subject: _Subject, lists: Lists, protocol: Protocol) -> ProtocolReport:
    bundle, instances = subject.bundle, subject.instances
    ranks = all_ranks(bundle, lists, instances, protocol)
    values = {name: ndcg(rank, 10) for name, rank in ranks.items()}
    answers = {
        "popularity": popular(bundle, instances, protocol),
        "sasrec": lists.ranked.items,
        **{name: generated.items for name, generated in lists.generated.items()},
    }
    single = {name: values[name] for name in answers if name != "popularity"}
    memorized = subject.categories.memorization
    benefits = benefits_from_memorization(subject.one_hop, instances.targets)
    return ProtocolReport(
        masking=PROTOCOLS[protocol],
        metrics={name: summary(rank) for name, rank in ranks.items()},
        differences=_differences(bundle, values),
        categories=slices(by_category(subject.categories), single),
        prefixes=slices(by_prefix(subject.tokens), single),
        strengths={
            name: strength_map(
                subject.phi[memorized], subject.psi[memorized], (single[name] - single["sasrec"])[memorized]
            )
            for name in lists.generated
        },
        indicators={
            name: quantiles(indicator, memorized, single)
            for name, indicator in indicator_values(bundle, lists, instances).items()
        },
        one_hop=slices({"MB": benefits, "NMB": ~benefits}, values),
        one_hop_ratios={name: bootstrap(one_hop_ratio(items, subject.one_hop)) for name, items in answers.items()},
    )
