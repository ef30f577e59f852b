"""Variants of TIGER's training or decoding, compared at one budget: the same data, semantic ids, epochs and schedule.

There is no early stop, and the weights of the last epoch are the ones measured. Every variant has a run a seed; a
user's NDCG@10 is the mean over seeds, and intervals are over users.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console

from training.data.dataset import Dataset
from training.embeddings import default_embedder
from training.evaluate import Split
from training.index_build import build_index
from training.lists import Protocol
from training.loop import Runtime, bf16_pays
from training.metrics import Estimate, bootstrap, ndcg, ranks
from training.one_hop import benefits_from_memorization, one_hop_candidates, one_hop_ratio
from training.pipeline import Plan, claim, semantic_ids
from training.presets import PRESETS
from training.recipes.codebook_sweep import equal_budget
from training.recipes.variant_runs import BASELINE, Experiment, Variant

GROUPS = ("all", "MB", "NMB")
ONE_HOP = "one-hop ratio"

Values = Mapping[str, NDArray[np.float64]]
"""By measure: NDCG@10 [users] of each group, and the one-hop ratio [users]."""


class Row(BaseModel):
    """One variant on one split under one protocol, by measure: `GROUPS` of NDCG@10, and the one-hop ratio."""

    variant: str
    split: Split
    protocol: Protocol
    values: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]  # from the baseline, paired over users; empty for the baseline itself


class Comparison(BaseModel):
    """The whole experiment."""

    data: str
    preset: str
    epochs: tuple[int, ...]
    """Of TIGER's stages: whole sequences, where the preset begins with them, and prefixes."""
    seeds: Sequence[int]
    minutes: Mapping[str, Sequence[float]]  # of training, by variant, one a seed
    rows: Sequence[Row]


def plan(dataset: Dataset, preset: str, epochs: int | None, work: Path, embedder: str | None, device: str) -> Plan:
    """A preset at an equal budget; `epochs` replaces its own."""
    chosen = PRESETS[preset]
    options = equal_budget(replace(chosen.fit_tiger, epochs=epochs or chosen.fit_tiger.epochs))
    return Plan(
        preset=replace(chosen, fit_tiger=options),
        name=dataset.name,
        out=work,
        work=work,
        embedder=embedder or default_embedder(),
        runtime=Runtime(device=device, bf16=bf16_pays(device)),
    )


def compare(
    dataset: Dataset,
    plan: Plan,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    splits: Sequence[Split],
    console: Console,
) -> Comparison:
    """Run the baseline and every variant once a seed, and measure them; what is complete is not repeated.

    Raises:
        TrainingError: the work folder of `plan` holds an experiment with other data or another preset.
    """
    claim(plan, dataset)
    subjects = {split: dataset.instances(split) for split in splits}
    experiment = Experiment(dataset, plan, semantic_ids(dataset, plan, console)[0], subjects, console)
    index = build_index(dataset.training_sequences(), dataset.num_items)
    candidates = {split: one_hop_candidates(index, instances.histories) for split, instances in subjects.items()}
    minutes: dict[str, Sequence[float]] = {}
    baseline: dict[tuple[Split, Protocol], Values] = {}
    rows = []
    for variant in (Variant(BASELINE), *variants):
        lists, minutes[variant.name] = zip(*(experiment.run(variant, seed) for seed in seeds), strict=True)
        for split, protocol in lists[0]:
            runs = [found[split, protocol] for found in lists]
            values = _values(runs, subjects[split].targets, candidates[split])
            reference = baseline.setdefault((split, protocol), values)
            differences = {} if reference is values else {name: values[name] - reference[name] for name in values}
            rows.append(
                Row(
                    variant=variant.name,
                    split=split,
                    protocol=protocol,
                    values={name: bootstrap(found) for name, found in values.items()},
                    differences={name: bootstrap(found) for name, found in differences.items()},
                )
            )
    return Comparison(
        data=dataset.name,
        preset=plan.preset.name,
        epochs=plan.preset.tiger_epochs,
        seeds=seeds,
        minutes=minutes,
        rows=rows,
    )


def _values(
    lists: Sequence[NDArray[np.int64]], targets: NDArray[np.integer], candidates: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """The mean over runs of every user's measures."""
    gains = np.mean([ndcg(ranks(items, targets), 10) for items in lists], axis=0)
    benefits = benefits_from_memorization(candidates, targets)
    return {
        "all": gains,
        "MB": gains[benefits],
        "NMB": gains[~benefits],
        ONE_HOP: np.mean([one_hop_ratio(items, candidates) for items in lists], axis=0),
    }
