"""The controlled codebook experiment: does a smaller codebook generalize better at an equal training budget?

After table 3 of arXiv 2603.19809: the same network, levels, epochs and schedule for every codebook size, no early stop,
the weights of the last epoch, so that the runs differ in nothing but the number of codes a level. Reported is NDCG@10
on memorization and on generalization, and how long a prefix of the targets training had already seen.

    python -m training.recipes.codebook_sweep DATA --out DIR
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from models.categories import categorize
from models.networks.beam import TigerBeam
from models.prefixes import prefix_transitions
from models.token_memorization import memorize
from models.transitions import TransitionIndex
from models.trie import Trie
from training.data.dataset import Dataset, load_dataset
from training.embeddings import default_embedder, embed
from training.index_build import build_index
from training.loop import FitOptions, Runtime, bf16_pays, total_minutes
from training.metrics import Estimate, bootstrap, ndcg
from training.presets import PRESETS, Preset
from training.recipes.options import DataArgument, EpochsOption, OutOption, PresetOption
from training.recommenders import Workshop, train_tiger
from training.table import stages
from training.tokenizers.collisions import add_collision_digit
from training.tokenizers.quality import report
from training.tokenizers.residual_kmeans import ResidualKMeans
from training.validation import beam_ranks

Vectors = NDArray[np.float32]


class Point(BaseModel):
    """One codebook size."""

    codebook_size: int
    collision_rate: float
    groups: Mapping[str, Estimate]
    """NDCG@10 (protocol A) of all targets, and of those that are memorization and generalization."""
    prefix_shares: Sequence[float]
    """Of the targets that are not memorization: the share whose longest memorized prefix has 0, 1, ..., L codes."""
    minutes: float


class Sweep(BaseModel):
    """The whole experiment."""

    data: str
    preset: str
    epochs: tuple[int, ...]
    """Of TIGER's stages: whole sequences, where the preset begins with them, and prefixes."""
    seed: int
    points: Sequence[Point]


def sweep(
    dataset: Dataset, vectors: Vectors, preset: Preset, sizes: Sequence[int], work: Path, console: Console
) -> Sweep:
    """Train TIGER once for each codebook size; a run that is complete in `work` is not repeated."""
    runtime = Runtime(bf16=bf16_pays("cpu"))
    index = build_index(dataset.training_sequences(), dataset.num_items)
    points = []
    for size in sizes:
        console.print(f"codebook size {size}")
        shop = Workshop(dataset, runtime, work / str(size), console)
        points.append(_point(shop, vectors, index, preset, size))
    return Sweep(data=dataset.name, preset=preset.name, epochs=preset.tiger_epochs, seed=runtime.seed, points=points)


def _point(shop: Workshop, vectors: Vectors, index: TransitionIndex, preset: Preset, size: int) -> Point:
    tokenizer = ResidualKMeans.fit(
        vectors,
        levels=preset.codebooks,
        codebook_size=size,
        restarts=preset.restarts,
        seed=shop.runtime.seed,
    )
    raw = tokenizer.encode(vectors)
    unique = add_collision_digit(raw, size)
    codes = np.concatenate([np.zeros_like(unique[:1]), unique])
    config = replace(preset.tiger, codebook_size=size)
    network, reports = train_tiger(
        shop, codes, config, equal_budget(preset.fit_tiger), fit_whole=preset.fit_tiger_whole
    )
    instances = shop.dataset.instances("test")
    search = TigerBeam(network, preset.width).eval()
    with torch.inference_mode():
        found = beam_ranks(search, Trie.build(codes), network.config.max_history, torch.from_numpy(codes), instances)
    values = ndcg(found, 10)
    groups = categorize(index, instances.histories, instances.targets).group()
    lengths = memorize(prefix_transitions(index, codes), instances.histories, instances.targets).length
    others = lengths[groups != "memorization"]
    return Point(
        codebook_size=size,
        collision_rate=report(tokenizer, raw, vectors).collision_rate,
        groups={
            "all": bootstrap(values),
            **{group: bootstrap(values[groups == group]) for group in ("memorization", "generalization")},
        },
        prefix_shares=(np.bincount(others, minlength=codes.shape[1] + 1) / max(len(others), 1)).tolist(),
        minutes=total_minutes(reports),
    )


def equal_budget(options: FitOptions) -> FitOptions:
    """The same schedule for every run: all epochs, validated once, so that the last weights are the ones kept."""
    return replace(options, evaluate_every=options.epochs)


def draw(found: Sweep, path: Path) -> None:
    """NDCG@10 against the codebook size, one line a group, relative to the smallest size."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    sizes = [str(point.codebook_size) for point in found.points]
    for panel, group, colour in zip(panels, ("memorization", "generalization"), ("#b45309", "#2b6cb0"), strict=True):
        values = [point.groups[group] for point in found.points]
        errors = [[e.value - e.low for e in values], [e.high - e.value for e in values]]
        panel.errorbar(sizes, [e.value for e in values], yerr=errors, marker="o", capsize=3, color=colour)
        panel.set_title(group, fontsize=10)
        panel.set_xlabel("codes a level")
        panel.set_ylabel("NDCG@10, 95 % interval")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
    figure.suptitle(f"TIGER on {found.data}: codebook size at {stages(found.epochs)} epochs", fontsize=11)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def print_sweep(found: Sweep, console: Console) -> None:
    """One row a codebook size."""
    table = Table(title=f"{found.data}, {stages(found.epochs)} epochs of preset {found.preset}")
    for column in (
        "codes a level",
        "collisions",
        "all",
        "memorization",
        "generalization",
        "longest prefix 0, 1, ... L",
    ):
        table.add_column(column, justify="right")
    for point in found.points:
        shares = " / ".join(f"{share:.1%}" for share in point.prefix_shares)
        values = (f"{point.groups[group].value:.4f}" for group in ("all", "memorization", "generalization"))
        table.add_row(str(point.codebook_size), f"{point.collision_rate:.1%}", *values, shares)
    console.print(table)


def main(
    data: DataArgument,
    out: OutOption,
    sizes: Annotated[list[int], typer.Option("--size", help="codes a level, repeatable")] = [64, 256, 1024],  # noqa: B006
    preset: PresetOption = "small",
    epochs: EpochsOption = None,
) -> None:
    """Run the experiment, and write sweep.json and sweep.png."""
    console = Console()
    dataset = load_dataset(data)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    vectors = embed(dataset.items["text"].to_pylist(), default_embedder(), seed=0)
    chosen = PRESETS[preset]
    if epochs is not None:
        chosen = replace(chosen, fit_tiger=replace(chosen.fit_tiger, epochs=epochs))
    found = sweep(dataset, vectors, chosen, sizes, work, console)
    print_sweep(found, console)
    (out / "sweep.json").write_text(found.model_dump_json(indent=1) + "\n")
    draw(found, out / "sweep.png")


if __name__ == "__main__":
    typer.run(main)
