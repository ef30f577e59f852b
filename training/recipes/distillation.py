"""What distillation keeps: TIGER, and SID-MLP and SID-MLP++ that learn from it, for several tokenizers.

The students are those of arXiv 2605.12617. Every network has all epochs of its schedule and keeps its last weights:
no early stop favours a teacher or a student. Figures are NDCG@10 of the test targets under both protocols, and the
share of the teacher's that a student keeps.

    python -m training.recipes.distillation DATA --out DIR --tokenizer rkmeans --tokenizer rqvae
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console

from models.networks.beam import TigerBeam
from models.networks.sid_mlp import SidMlpBeam, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger
from training import cli
from training.data.dataset import Dataset, load_dataset
from training.lists import PROTOCOLS, Protocol
from training.loop import FitReport, total_minutes
from training.metrics import Estimate, Floats, bootstrap, ndcg, ranks
from training.pipeline import Plan, claim, semantic_ids, whole
from training.presets import Preset
from training.publish import plus_plus_beam
from training.recipes.codebook_sweep import equal_budget
from training.recipes.decoding import Search, decode
from training.recipes.options import DataArgument, DeviceOption, EmbedderOption, EpochsOption, OutOption, PresetOption
from training.recipes.variants import plan
from training.recipes.variants_table import interval, write
from training.recommenders import Workshop, distil_sid_mlp, distil_sid_mlp_pp, train_tiger
from training.table import LABELS, stages
from training.tokenizers.registry import TokenizerName

TEACHER = "tiger"


class Model(BaseModel):
    """A teacher, or a student of it."""

    name: str
    ndcg_at_10: Mapping[Protocol, Estimate]
    shares: Mapping[Protocol, Estimate]
    """Of the teacher's NDCG@10, paired over users; empty for the teacher itself."""
    minutes: float
    """Of training."""


class Family(BaseModel):
    """A teacher and its students, over the semantic ids of one tokenizer."""

    tokenizer: TokenizerName
    collision_rate: float
    """The share of items whose codes, before they are made unique, are those of another one too."""
    models: Sequence[Model]
    """The teacher first."""


class Distillations(BaseModel):
    """The whole experiment."""

    data: str
    preset: str
    epochs: tuple[int, ...]
    """Of TIGER's stages: whole sequences, where the preset begins with them, and prefixes."""
    student_epochs: tuple[int, int]
    """Of the heads, and of the encoder of SID-MLP++ before them."""
    seed: int
    families: Sequence[Family]


def with_students(plan: Plan, epochs: int | None) -> Plan:
    """The plan with the students at an equal budget, too; `epochs` replaces the preset's of each stage."""
    preset = plan.preset
    heads, encoder = (
        equal_budget(replace(options, epochs=epochs or options.epochs))
        for options in (preset.fit_sid_mlp, preset.fit_role_encoder)
    )
    return replace(plan, preset=replace(preset, fit_sid_mlp=heads, fit_role_encoder=encoder))


def compare(
    dataset: Dataset, plan: Plan, tokenizers: Sequence[TokenizerName], students: Sequence[str], console: Console
) -> Distillations:
    """Train and measure a teacher and its students for each tokenizer; what is complete is not repeated.

    Raises:
        TrainingError: the work folder of `plan` holds an experiment with other data or options.
    """
    families = []
    for tokenizer in dict.fromkeys(tokenizers):
        console.print(f"tokenizer {tokenizer}")
        part = replace(plan, tokenizer=tokenizer, work=plan.work / tokenizer)
        families.append(_family(dataset, part, students, console))
    preset = plan.preset
    return Distillations(
        data=dataset.name,
        preset=preset.name,
        epochs=preset.tiger_epochs,
        student_epochs=(preset.fit_sid_mlp.epochs, preset.fit_role_encoder.epochs),
        seed=plan.runtime.seed,
        families=families,
    )


def _family(dataset: Dataset, plan: Plan, students: Sequence[str], console: Console) -> Family:
    claim(plan, dataset)
    codes, _, quality = semantic_ids(dataset, plan, console)
    apprenticeship = _Apprenticeship(Workshop(dataset, plan.runtime, plan.work, console), codes, plan.preset)
    runs = {name: apprenticeship.run(name) for name in (TEACHER, *students)}
    targets = dataset.instances("test").targets
    gains = {name: {p: ndcg(ranks(items, targets), 10) for p, items in run.lists.items()} for name, run in runs.items()}
    models = [
        Model(
            name=name,
            ndcg_at_10={protocol: bootstrap(values) for protocol, values in found.items()},
            shares={} if name == TEACHER else {p: share(found[p], gains[TEACHER][p]) for p in PROTOCOLS},
            minutes=runs[name].minutes,
        )
        for name, found in gains.items()
    ]
    return Family(tokenizer=plan.tokenizer, collision_rate=quality.collision_rate, models=models)


def share(values: Floats, reference: Floats) -> Estimate:
    """The mean of `values` [n] over that of `reference` [n], with its paired bootstrap interval over users.

    The interval is of the first order: a resampled ratio is taken to be linear in the two resampled means.
    """
    mean = reference.mean()
    ratio = values.mean() / mean
    return bootstrap(ratio + (values - ratio * reference) / mean)


class _Run(NamedTuple):
    """What came of one model."""

    lists: Mapping[Protocol, NDArray[np.int64]]  # [users, K] of test
    minutes: float  # of training


@dataclass(frozen=True)
class _Apprenticeship:
    """What a teacher and its students share."""

    shop: Workshop
    codes: NDArray[np.int64]
    preset: Preset

    def run(self, name: str) -> _Run:
        """Train a model and decode the test instances, unless an earlier call has."""
        path = self.shop.directory / f"{name}.npz"
        if not path.exists():
            search, minutes = self._trained(name)
            longest = self.preset.tiger.max_history
            lists = [decode(self.shop, search, longest, self.codes, "test", protocol) for protocol in PROTOCOLS]
            with whole(path) as partial:
                np.savez_compressed(partial, lists=np.stack(lists), minutes=minutes)
        with np.load(path) as stored:
            return _Run(dict(zip(PROTOCOLS, stored["lists"], strict=True)), float(stored["minutes"]))

    @cached_property
    def _teacher(self) -> tuple[Tiger, Sequence[FitReport]]:
        preset = self.preset
        config = replace(preset.tiger, levels=self.codes.shape[1])
        return train_tiger(
            self.shop, self.codes, config, preset.fit_tiger, preset.regularization, fit_whole=preset.fit_tiger_whole
        )

    def _trained(self, name: str) -> tuple[Search, float]:
        """The beam search of a model, and the minutes that its training took."""
        (teacher, reports), preset = self._teacher, self.preset
        if name == TEACHER:
            return TigerBeam(teacher, preset.width), total_minutes(reports)
        if name == "sid_mlp":
            student, report = distil_sid_mlp(self.shop, teacher, self.codes, preset.sid_mlp, preset.fit_sid_mlp)
            return SidMlpBeam(teacher.encoder, student, preset.width), total_minutes([report])
        config = SidMlpPlusPlusConfig(preset.role_encoder, preset.sid_mlp)
        network, reports = distil_sid_mlp_pp(
            self.shop, teacher, self.codes, config, preset.fit_role_encoder, preset.fit_sid_mlp
        )
        return plus_plus_beam(network, preset.width), total_minutes(reports)


def markdown(found: Distillations) -> str:
    """One row a model."""
    heads, encoder = found.student_epochs
    header = ["tokenizer", "collisions", "model"]
    header += [cell for protocol in PROTOCOLS for cell in (f"N@10, {protocol}", "of the teacher's")]
    lines = [
        f"Distillation on {found.data}, preset `{found.preset}`, seed {found.seed}, test: "
        f"TIGER {stages(found.epochs)} epochs, SID-MLP {heads}, SID-MLP++ {encoder} and {heads}.",
        f"Protocols: {'; '.join(f'{protocol}, {masking}' for protocol, masking in PROTOCOLS.items())}.\n",
        f"| {' | '.join(header)} | minutes |",
        f"| --- | ---: | --- |{' ---: |' * (len(header) - 2)}",
    ]
    for family in found.families:
        for model in family.models:
            cells = [family.tokenizer, f"{family.collision_rate:.1%}", LABELS[model.name]]
            for protocol in PROTOCOLS:
                cells += [interval(model.ndcg_at_10[protocol]), _percent(model.shares.get(protocol))]
            lines.append(f"| {' | '.join(cells)} | {model.minutes:g} |")
    return "\n".join(lines) + "\n"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (f"{number:.1%}" for number in estimate)
    return f"{value} [{low}, {high}]"


def main(
    data: DataArgument,
    out: OutOption,
    tokenizers: Annotated[list[cli.TokenizerName], typer.Option("--tokenizer", help="repeatable")] = [  # noqa: B006
        cli.TokenizerName.rkmeans,
        cli.TokenizerName.rqvae,
    ],
    plus_plus: Annotated[bool, typer.Option("--plus-plus", help="distil SID-MLP++ too")] = False,
    preset: PresetOption = "small",
    epochs: EpochsOption = None,
    student_epochs: Annotated[
        int | None, typer.Option(help="of each stage of a student; default: the preset's")
    ] = None,
    seed: Annotated[int, typer.Option(help="of the semantic ids and of all training")] = 0,
    embedder: EmbedderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Run the experiment, or go on with it, and write distillation.json and distillation.md."""
    console = Console()
    dataset = load_dataset(data)
    chosen = with_students(plan(dataset, preset, epochs, out / "work", embedder, device), student_epochs)
    chosen = replace(chosen, runtime=replace(chosen.runtime, seed=seed))
    students = ["sid_mlp", "sid_mlp_pp"] if plus_plus else ["sid_mlp"]
    found = compare(dataset, chosen, [tokenizer.value for tokenizer in tokenizers], students, console)
    write(found, markdown(found), out, "distillation", console)


if __name__ == "__main__":
    typer.run(main)
