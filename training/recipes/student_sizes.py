"""How small may SID-MLP++ be? Students of several sizes from the teacher of a finished bundle, at an equal budget.

The teacher, its semantic ids and the heads stay the same; only the layers and the hidden size of the role-wise encoder
differ. Every run has all epochs of both stages and keeps its last weights. Each student is exported, and measured like
the models of the bundle. The smallest one is chosen on validation; its test figures stand beside.

    python -m training.recipes.student_sizes BUNDLE --data DATA --out DIR

The checkpoint of the one to serve becomes `checkpoints/sid_mlp_pp.safetensors` of the bundle; then `tandem export` and
`tandem fit` do the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle, GraphEntry
from models.errors import TrainingError
from models.graphs import Graphs
from models.networks.role_encoder import RoleEncoderConfig
from models.networks.sid_mlp import SidMlpPlusPlus, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger
from training.checkpoints import load_networks, save_network
from training.data.dataset import Dataset, load_dataset
from training.evaluate import Split, check_catalogue
from training.export import export_generative
from training.lists import PROTOCOLS, Protocol, collect
from training.loop import Runtime, bf16_pays, total_minutes
from training.metrics import Estimate, bootstrap, ndcg, ranks
from training.presets import PRESETS, Preset
from training.publish import CHECKPOINTS, parameter_count, plus_plus_beam
from training.recipes.codebook_sweep import equal_budget
from training.recipes.options import DeviceOption, OutOption
from training.recommenders import Workshop, distil_sid_mlp_pp

Scores = Mapping[Split, Mapping[Protocol, Estimate]]
SPLITS: tuple[Split, ...] = ("valid", "test")
KEPT = 0.97  # of the teacher's NDCG@10, on validation, under both protocols
NAME = "sid_mlp_pp"
Size = tuple[int, int]  # layers, hidden


class Point(BaseModel):
    """One model: of the bundle, or a student of one size."""

    name: str
    parameters: int
    """Trained weights; of SID-MLP without the encoder, which is its teacher's."""
    ndcg_at_10: Scores
    shares: Mapping[Split, Mapping[Protocol, float]]
    """NDCG@10 as a share of the teacher's."""
    states_explained: float | None = None
    """Of a student: the share of the variance of the teacher's states that its encoder explains, on validation."""
    minutes: float | None = None

    @property
    def kept(self) -> float:
        """The smaller of the validation shares."""
        return min(self.shares["valid"].values())


class Sizes(BaseModel):
    """The whole experiment."""

    bundle: str
    data: str
    preset: str
    epochs: tuple[int, int]
    """Of the two stages."""
    seed: int
    references: Sequence[Point]
    students: Sequence[Point]
    smallest: str | None
    """The student with the fewest weights that keeps at least 97 % of the teacher, if one does."""


def compare(
    bundle: Bundle,
    dataset: Dataset,
    preset: Preset,
    sizes: Sequence[Size],
    runtime: Runtime,
    work: Path,
    console: Console,
) -> Sizes:
    """Train and measure one student a size; a training that is complete in `work` is not repeated.

    Raises:
        DataError: the data set is not the one that the bundle was trained on.
    """
    check_catalogue(bundle, dataset)
    teacher = load_networks(bundle.path / CHECKPOINTS).tiger
    entries = bundle.manifest.graphs
    measured = _measure(bundle, entries, dataset, console)
    references = [
        Point(
            name=name, parameters=entries[name].parameters, ndcg_at_10=found, shares=_shares(found, measured["tiger"])
        )
        for name, found in measured.items()
    ]
    students = []
    for layers, hidden in sizes:
        name = f"{layers}x{hidden}"
        console.print(f"student {name}")
        shop = Workshop(dataset, runtime, work / name, console)
        students.append(_student(shop, bundle, teacher, preset, RoleEncoderConfig(layers, hidden), measured["tiger"]))
    return Sizes(
        bundle=bundle.identity,
        data=dataset.name,
        preset=preset.name,
        epochs=(preset.fit_role_encoder.epochs, preset.fit_sid_mlp.epochs),
        seed=runtime.seed,
        references=references,
        students=students,
        smallest=smallest(students),
    )


def smallest(students: Sequence[Point]) -> str | None:
    """The name of the student with the fewest weights that keeps enough of the teacher."""
    good = [point for point in students if point.kept >= KEPT]
    return min(good, key=lambda point: point.parameters).name if good else None


def _student(
    shop: Workshop, bundle: Bundle, teacher: Tiger, preset: Preset, size: RoleEncoderConfig, best: Scores
) -> Point:
    encoder = replace(size, dropout=preset.role_encoder.dropout)
    network, reports = distil_sid_mlp_pp(
        shop,
        teacher,
        bundle.catalogue.codes,
        SidMlpPlusPlusConfig(encoder, preset.sid_mlp),
        equal_budget(preset.fit_role_encoder),
        equal_budget(preset.fit_sid_mlp),
    )
    save_network(network, shop.directory / f"{NAME}.safetensors")
    entries = {"sasrec": bundle.manifest.graphs["sasrec"], NAME: _export(network, bundle, shop.directory)}
    found = _measure(bundle, entries, shop.dataset, shop.console)[NAME]
    return Point(
        name=f"{size.layers}x{size.hidden}",
        parameters=entries[NAME].parameters,
        ndcg_at_10=found,
        shares=_shares(found, best),
        states_explained=reports[0].best_score,
        minutes=total_minutes(reports),
    )


def _export(network: SidMlpPlusPlus, bundle: Bundle, directory: Path) -> GraphEntry:
    """Write the student's graph outside the bundle; its entry is that of a graph of the bundle all the same."""
    path = (directory / f"{NAME}.onnx").resolve()
    like = bundle.manifest.graphs["sid_mlp"]
    search = plus_plus_beam(network, like.width, skip_forced=True)
    export_generative(search, bundle.trie, torch.from_numpy(bundle.catalogue.codes), path)
    return GraphEntry(
        file=str(path),
        max_history=like.max_history,
        width=like.width,
        parameters=parameter_count(network),
        normalisation=like.normalisation,
    )


def _measure(
    bundle: Bundle, entries: Mapping[str, GraphEntry], dataset: Dataset, console: Console
) -> dict[str, Scores]:
    """NDCG@10 of the generative graphs among `entries`, by split and protocol."""
    graphs = Graphs(replace(bundle, manifest=bundle.manifest.model_copy(update={"graphs": entries})))
    found: dict[str, dict[Split, dict[Protocol, Estimate]]] = {
        name: {split: {} for split in SPLITS} for name in entries if name != "sasrec"
    }
    for split in SPLITS:
        instances = dataset.instances(split)
        for protocol in PROTOCOLS:
            for name, generated in collect(graphs, instances, protocol, console).generated.items():
                found[name][split][protocol] = bootstrap(ndcg(ranks(generated.items, instances.targets), 10))
    return dict(found)


def _shares(found: Scores, best: Scores) -> dict[Split, dict[Protocol, float]]:
    def share(split: Split, protocol: Protocol) -> float:
        teacher = best[split][protocol].value
        return found[split][protocol].value / teacher if teacher else 0.0

    return {split: {protocol: share(split, protocol) for protocol in PROTOCOLS} for split in SPLITS}


def print_sizes(found: Sizes, console: Console) -> None:
    """One row a model, the bundle's own first."""
    epochs = " + ".join(map(str, found.epochs))
    table = Table(title=f"{found.bundle} on {found.data}, {epochs} epochs, N@10 and share of TIGER's")
    columns = [f"{split} {protocol}" for split in SPLITS for protocol in PROTOCOLS]
    for column in ("model", "weights", "R² of the states", *columns, "minutes"):
        table.add_column(column, justify="right")
    for point in (*found.references, *found.students):
        cells = (
            f"{point.ndcg_at_10[split][protocol].value:.4f} {point.shares[split][protocol]:7.1%}"
            for split in SPLITS
            for protocol in PROTOCOLS
        )
        explained = "" if point.states_explained is None else f"{point.states_explained:.3f}"
        table.add_row(point.name, f"{point.parameters:,}", explained, *cells, f"{point.minutes or ''}")
    console.print(table)
    console.print(f"smallest student with at least {KEPT:.0%} of the teacher on validation: {found.smallest or 'none'}")


def parse_size(text: str) -> Size:
    """Layers and hidden size of `2x512`.

    Raises:
        TrainingError: it is something else.
    """
    layers, _, hidden = text.partition("x")
    if not (layers.isdigit() and hidden.isdigit() and int(layers) and int(hidden)):
        raise TrainingError(f"a size is LAYERSxHIDDEN, two whole numbers above 0, got {text!r}; write 2x512")
    return int(layers), int(hidden)


def main(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle with its checkpoints")],
    data: Annotated[Path, typer.Option(help="the data set that the bundle was trained on")],
    out: OutOption,
    sizes: Annotated[list[str], typer.Option("--size", help="LAYERSxHIDDEN, repeatable")] = [  # noqa: B006
        "1x256",
        "1x512",
        "2x512",
        "4x512",
        "4x1024",
        "4x2048",
    ],
    preset: Annotated[str | None, typer.Option(help="schedules and heads; default: the bundle's")] = None,
    epochs: Annotated[int | None, typer.Option(help="of each stage of every run; default: the preset's")] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Run the experiment, and write sizes.json."""
    console = Console()
    opened, dataset = Bundle.open(bundle), load_dataset(data)
    chosen = PRESETS[preset or opened.manifest.training["preset"]]
    if epochs is not None:
        encoder, heads = (replace(o, epochs=epochs) for o in (chosen.fit_role_encoder, chosen.fit_sid_mlp))
        chosen = replace(chosen, fit_role_encoder=encoder, fit_sid_mlp=heads)
    (out / "work").mkdir(parents=True, exist_ok=True)
    runtime = Runtime(device=device, bf16=bf16_pays(device))
    found = compare(opened, dataset, chosen, list(map(parse_size, sizes)), runtime, out / "work", console)
    print_sizes(found, console)
    (out / "sizes.json").write_text(found.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
