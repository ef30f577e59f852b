"""Recipes of SASRec beside each other: the preset's own, and that of MemGen (arXiv 2603.19809).

`reproduction` is SASRec of the preset, which follows an independent reproduction on Beauty. `memgen` is MemGen's
configuration, whatever the preset. Each trains once a seed, stops early by validation NDCG@10 (protocol A), and keeps
its best weights. The network itself ranks the whole catalogue; nothing is exported.

    python -m training.recipes.sasrec DATA --out DIR --recipe reproduction --recipe memgen --seed 0 --seed 1 --seed 2
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from models.histories import allow_all_but
from models.networks.sasrec import SASRec
from training.batches import Sequences, history_batches, pad
from training.data.dataset import Dataset, load_dataset
from training.evaluate import Split
from training.lists import PROTOCOLS, Protocol
from training.loop import FitOptions, FitReport, Runtime, bf16_pays, total_minutes
from training.metrics import Floats, Ranks, bootstrap, ndcg, ranks, recall
from training.pipeline import Plan, claim, machine
from training.presets import PRESETS, Preset
from training.publish import parameter_count
from training.recipes.decoding import stored_lists
from training.recipes.options import DataArgument, DeviceOption, OutOption, PresetOption, SeedsOption
from training.recipes.sasrec_table import Measure, Recipes, Row, Run, Training, markdown
from training.recipes.variants_table import write
from training.recommenders import Workshop, train_sasrec

SPLITS: tuple[Split, ...] = ("valid", "test")
METRICS = {"ndcg@10": ndcg, "recall@10": recall}
CUTOFF = 10
BATCH = 256  # histories

MEMGEN_NETWORK = {
    "d_model": 64,
    "layers": 2,
    "heads": 2,
    "d_ff": 256,
    "dropout": 0.5,
    "attention_dropout": 0.5,
    "residual_dropout": 0.0,
    "max_history": 50,
}
MEMGEN_FIT = FitOptions(150, 256, 3e-3, warmup_steps=10_000, patience=20)


class Recipe(StrEnum):
    """How SASRec is made."""

    reproduction = "reproduction"
    memgen = "memgen"

    def within(self, preset: Preset, epochs: int | None) -> Preset:
        """The preset with SASRec by this recipe; `epochs` replaces the recipe's own."""
        if self is Recipe.memgen:
            preset = replace(preset, sasrec=MEMGEN_NETWORK, fit_sasrec=MEMGEN_FIT)
        return replace(preset, fit_sasrec=replace(preset.fit_sasrec, epochs=epochs or preset.fit_sasrec.epochs))


class _Trained(NamedTuple):
    """What came of one seed."""

    network: SASRec
    report: FitReport
    ranks: Mapping[tuple[Split, Protocol], Ranks]  # of the targets


@dataclass(frozen=True)
class _Experiment:
    """What all runs share."""

    dataset: Dataset
    runtime: Runtime
    work: Path
    console: Console

    def run(self, recipe: Recipe, preset: Preset, seed: int) -> _Trained:
        """Train with one seed, and rank; what is complete is not repeated."""
        self.console.print(f"{recipe}, seed {seed}")
        runtime, folder = replace(self.runtime, seed=seed), self.work / recipe / str(seed)
        # item texts are part of the data, but no embedder reads them
        claim(Plan(preset, recipe, folder, folder, embedder="none", runtime=runtime), self.dataset)
        shop = Workshop(self.dataset, runtime, folder, self.console)
        network, report = train_sasrec(shop, preset.sasrec_config(self.dataset.num_items), preset.fit_sasrec)
        found = {
            (split, protocol): _ranks(shop, network, split, protocol) for split in SPLITS for protocol in PROTOCOLS
        }
        return _Trained(network, report, found)


def compare(
    dataset: Dataset,
    presets: Mapping[Recipe, Preset],
    seeds: Sequence[int],
    runtime: Runtime,
    work: Path,
    console: Console,
) -> Recipes:
    """Train and measure each recipe, whose SASRec `presets` holds, once a seed; what is complete is not repeated.

    Raises:
        TrainingError: `work` holds runs with other data or options.
    """
    experiment = _Experiment(dataset, runtime, work, console)
    trainings: list[Training] = []
    rows: list[Row] = []
    for recipe, preset in presets.items():
        runs = [experiment.run(recipe, preset, seed) for seed in seeds]
        trainings.append(_training(recipe, preset, seeds, runs))
        for split, protocol in runs[0].ranks:
            found = [run.ranks[split, protocol] for run in runs]
            metrics = {name: _measure([metric(one, CUTOFF) for one in found]) for name, metric in METRICS.items()}
            rows.append(Row(recipe=recipe, split=split, protocol=protocol, metrics=metrics))
    return Recipes(
        data=dataset.name,
        instances=len(dataset.instances("test").targets),
        items=dataset.num_items,
        preset=next(iter(presets.values())).name,
        seeds=seeds,
        machine=machine(runtime),
        bf16=runtime.bf16,
        trainings=trainings,
        rows=rows,
    )


def _training(recipe: Recipe, preset: Preset, seeds: Sequence[int], runs: Sequence[_Trained]) -> Training:
    network = runs[0].network
    return Training(
        recipe=recipe,
        network=network.config,
        fit=preset.fit_sasrec,
        parameters=parameter_count(network),
        runs=[
            Run(seed=seed, epochs=report.epochs, best_epoch=report.best_epoch, minutes=total_minutes([report]))
            for seed, (_, report, _) in zip(seeds, runs, strict=True)
        ],
    )


def _measure(values: Sequence[Floats]) -> Measure:
    """Of the values [users] of each seed."""
    means = [float(found.mean()) for found in values]
    return Measure(
        seeds=means,
        deviation=statistics.stdev(means) if len(means) > 1 else None,
        estimate=bootstrap(np.mean(values, axis=0)),
    )


def _ranks(shop: Workshop, network: SASRec, split: Split, protocol: Protocol) -> Ranks:
    """Rank all instances of a split, unless an earlier call has."""
    instances = shop.dataset.instances(split)
    found = stored_lists(
        shop.directory / f"{split}-{protocol}.npy",
        lambda: top_items(network, instances.histories, masked=protocol == "B", device=shop.runtime.device),
    )
    return ranks(found, instances.targets)


@torch.inference_mode()
def top_items(network: SASRec, histories: Sequences, *, masked: bool, device: str) -> NDArray[np.int64]:
    """The first items [n, 10], best first; with `masked`, none of the history's own (0 where too few are left)."""
    network, items = network.to(device).eval(), network.config.items
    found = np.zeros((len(histories), CUTOFF), dtype=np.int64)
    for rows in history_batches(histories, BATCH):
        chosen = [histories[i] for i in rows]
        scores = network(pad(chosen, network.config.max_history).to(device))
        if masked:
            allowed = torch.from_numpy(allow_all_but(chosen, items)[:, 1:]).to(device)
            scores = scores.masked_fill(~allowed, -math.inf)
        best = scores.topk(min(CUTOFF, items), dim=1)
        found[rows, : best.indices.shape[1]] = (best.indices + 1).where(best.values > -math.inf, 0).cpu().numpy()
    return found


def main(
    data: DataArgument,
    out: OutOption,
    recipes: Annotated[list[Recipe], typer.Option("--recipe", help="repeatable")] = list(Recipe),  # noqa: B006
    seeds: SeedsOption = [0, 1, 2],  # noqa: B006
    preset: PresetOption = "small",
    epochs: Annotated[int | None, typer.Option(help="of every recipe, at most; default: the recipe's own")] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Run the experiment, or go on with it, and write sasrec.json and sasrec.md."""
    console = Console()
    presets = {recipe: recipe.within(PRESETS[preset], epochs) for recipe in recipes}
    runtime = Runtime(device=device, bf16=bf16_pays(device))
    found = compare(load_dataset(data), presets, seeds, runtime, out / "work", console)
    write(found, markdown(found), out, "sasrec", console)


if __name__ == "__main__":
    typer.run(main)
