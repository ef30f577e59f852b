"""`tandem train`: from a data set to a published bundle. An interrupted run goes on where it stopped."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from models.bundle import Bundle, fusion_file, read_manifest
from models.catalogue import Catalogue
from models.errors import TrainingError
from models.graphs import Graphs
from models.networks.sid_mlp import SidMlp, SidMlpPlusPlus, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger
from training.data.dataset import Dataset
from training.distributed import Workers
from training.embeddings import embed
from training.evaluate import Results, check_catalogue, evaluate
from training.fusion import fit_ensemble
from training.iirg import Iirg
from training.index_build import build_index
from training.lists import collect
from training.loop import FitReport, Runtime, total_minutes
from training.presets import Preset
from training.publish import Parts, next_version, publish, revised, stage, write_manifest
from training.quantise import add_int8
from training.recommenders import Workshop, distil_sid_mlp, distil_sid_mlp_pp, train_sasrec, train_tiger
from training.tokenizers import registry
from training.tokenizers.collisions import Collisions, unique_codes
from training.tokenizers.interface import Tokenizer
from training.tokenizers.quality import TokenizerReport, report

RECORD = "run.json"  # what a work folder is for
EMBEDDINGS = "embeddings.npy"  # of the item texts, [N, d]


@dataclass(frozen=True)
class Plan:
    """What to train and where to put it."""

    preset: Preset
    name: str
    out: Path  # the bundle becomes out/name/<next version>, or out/name itself when `flat`
    work: Path  # checkpoints and intermediate results
    embedder: str
    runtime: Runtime
    flat: bool = False
    tokenizer: registry.TokenizerName = "rkmeans"
    collisions: Collisions = "digit"
    iirg: bool = False  # whether TIGER learns neighbours too, with the preset's options
    plus_plus: bool = True  # whether TIGER gets a second student, SID-MLP++


def train(dataset: Dataset, plan: Plan, console: Console) -> tuple[Path, Results]:
    """Train, export, fit, evaluate and publish; returns the bundle's folder and its test results.

    Raises:
        TrainingError: the work folder holds a run with other options, or the data cannot be tokenized.
    """
    claim(plan, dataset)
    console.print(f"{dataset.name}: {len(dataset.user_ids)} users, {dataset.num_items} items; {dataset.report}")
    codes, tokenizer, tokens = semantic_ids(dataset, plan, console)
    Workers.present().wait()  # those that `assist` need the semantic ids
    shop = Workshop(dataset, plan.runtime, plan.work, console)
    preset = plan.preset
    sasrec, sasrec_report = train_sasrec(shop, preset.sasrec_config(dataset.num_items), preset.fit_sasrec)
    tiger, reports_tiger = _train_tiger(shop, codes, plan)
    student, student_pp, reports_students = _distil(shop, tiger, codes, plan)
    reports = (sasrec_report, *reports_tiger, *reports_students)
    parts = Parts(
        name=plan.name,
        catalogue=Catalogue(dataset.items["item_id"].to_pylist(), codes, dataset.items),
        codebook_size=preset.codebook_size,
        tokenizer=tokenizer,
        transitions=build_index(dataset.training_sequences(), dataset.num_items),
        popularity=_popularity(dataset),
        sasrec=sasrec,
        tiger=tiger,
        student=student,
        width=preset.width,
        student_pp=student_pp,
    )
    staged = plan.work / "bundle"
    shutil.rmtree(staged, ignore_errors=True)
    version = 1 if plan.flat else next_version(plan.out / plan.name)
    training = {
        "minutes": total_minutes(reports),
        "data": {"name": dataset.name, **asdict(dataset.report)},
        "tokenizer": {"name": plan.tokenizer, "collisions": plan.collisions, **asdict(tokens)},
        "runs": {report.name: _without_history(asdict(report)) for report in reports},
        **_settings(plan, parts),
    }
    stage(parts, training, version, staged)
    results = _measure(staged, dataset, console)
    destination = plan.out / plan.name if plan.flat else plan.out / plan.name / str(version)
    publish(staged, destination, replace=plan.flat)
    return destination, results


def _distil(
    shop: Workshop, tiger: Tiger, codes: NDArray[np.int64], plan: Plan
) -> tuple[SidMlp, SidMlpPlusPlus | None, Sequence[FitReport]]:
    """Train the students of `tiger`."""
    preset = plan.preset
    student, report = distil_sid_mlp(shop, tiger, codes, preset.sid_mlp, preset.fit_sid_mlp)
    if not plan.plus_plus:
        return student, None, [report]
    config = SidMlpPlusPlusConfig(preset.role_encoder, preset.sid_mlp)
    student_pp, reports = distil_sid_mlp_pp(shop, tiger, codes, config, preset.fit_role_encoder, preset.fit_sid_mlp)
    return student, student_pp, [report, *reports]


def _settings(plan: Plan, parts: Parts) -> dict[str, object]:
    """What the networks of a bundle were made with, for its manifest."""
    networks = {"sasrec": parts.sasrec, "tiger": parts.tiger, "sid_mlp": parts.student, "sid_mlp_pp": parts.student_pp}
    return {
        "preset": plan.preset.name,
        "embedder": plan.embedder,
        "seed": plan.runtime.seed,
        "bf16": plan.runtime.bf16,
        "machine": machine(plan.runtime),
        "networks": {name: asdict(network.config) for name, network in networks.items() if network},
        "regularization": asdict(plan.preset.regularization),
        "iirg": asdict(plan.preset.iirg) if plan.iirg else None,
    }


def assist(dataset: Dataset, plan: Plan) -> None:
    """What the other processes of a `torchrun` do while the main one calls `train`: their share of TIGER's training."""
    Workers.present().wait()
    console = Console(quiet=True)
    codes = semantic_ids(dataset, plan, console)[0]  # from the work folder
    _train_tiger(Workshop(dataset, plan.runtime, plan.work, console), codes, plan)


def _train_tiger(shop: Workshop, codes: NDArray[np.int64], plan: Plan) -> tuple[Tiger, Sequence[FitReport]]:
    preset, iirg = plan.preset, None
    if plan.iirg:
        iirg = Iirg.of(preset.iirg, shop.sequences, np.load(plan.work / EMBEDDINGS))
    config = replace(preset.tiger, levels=codes.shape[1])
    return train_tiger(shop, codes, config, preset.fit_tiger, preset.regularization, iirg, preset.fit_tiger_whole)


def _measure(staged: Path, dataset: Dataset, console: Console) -> Results:
    """Fit the ensembles and add int8 graphs on validation lists, evaluate on test, and write all into the manifest."""
    bundle = Bundle.open(staged)
    check_catalogue(bundle, dataset)
    instances = dataset.instances("valid")
    # Protocol B is what the service does by default: it does not recommend what the user has just had.
    lists = collect(Graphs(bundle), instances, "B", console)
    ensembles = {}
    for name in lists.generated:
        console.print(f"fitting the ensemble of SASRec and {name}")
        ensembles[name], learned = fit_ensemble(bundle, name, lists, instances)
        learned.save(staged / fusion_file(name))
    graphs = add_int8(staged, bundle, lists, instances, console)
    write_manifest(staged, read_manifest(staged).model_copy(update={"ensembles": ensembles, "graphs": graphs}))
    results = evaluate(Bundle.open(staged), dataset, "test", console)
    test = results.model_dump(include={"ranking", "ties", "intervals", "protocols"})
    write_manifest(staged, read_manifest(staged).model_copy(update={"metrics": {"test": test}}))
    return results


def semantic_ids(
    dataset: Dataset, plan: Plan, console: Console
) -> tuple[NDArray[np.int64], Tokenizer, TokenizerReport]:
    """Codes [N + 1, D] with the tokenizer that made them, from the work folder where a run was interrupted."""
    preset, stored = plan.preset, plan.work / "tokenizer.npz"
    vectors_path = plan.work / EMBEDDINGS
    if not vectors_path.exists():
        console.print(f"embedding {dataset.num_items} item texts with {plan.embedder}")
        texts = dataset.items["text"].to_pylist()
        with whole(vectors_path) as partial:
            np.save(partial, embed(texts, plan.embedder, seed=plan.runtime.seed))
    vectors = np.load(vectors_path)
    if not stored.exists():
        options = registry.TokenizerOptions(
            levels=preset.codebooks,
            codebook_size=preset.codebook_size,
            restarts=preset.restarts,
            autoencoder=preset.autoencoder,
            device=plan.runtime.device,
            seed=plan.runtime.seed,
        )
        with whole(stored) as partial, Progress(console=console) as progress:
            registry.fit(plan.tokenizer, vectors, options, progress).save(partial)
    tokenizer = registry.load(stored)
    codes = tokenizer.encode(vectors)
    quality = report(tokenizer, codes, vectors)
    console.print(quality)
    unique = unique_codes(tokenizer, vectors, codes, plan.collisions, preset.codebook_size)
    return np.concatenate([np.zeros_like(unique[:1]), unique]), tokenizer, quality


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path to write to; the file takes its place only when it is complete."""
    partial = path.with_stem(f"{path.stem}.partial")
    yield partial
    partial.replace(path)


def machine(runtime: Runtime) -> str:
    """Where a training ran, for those who read its minutes."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {runtime.device}"


def discard(work: Path) -> None:
    """Delete the work folder of an earlier run, if there is one.

    Raises:
        TrainingError: the folder is something else.
    """
    if not work.exists():
        return
    if any(work.iterdir()) and not (work / RECORD).is_file():
        raise TrainingError(
            f"--fresh deletes a work folder, which holds {RECORD}; {work} does not. Pass another --work."
        )
    shutil.rmtree(work)


def refit(path: Path, dataset: Dataset, console: Console) -> Results:
    """Fit the ensembles of a bundle again and measure it anew; its networks stay as they are.

    Raises:
        DataError: the data set is not the one that the bundle was trained on.
    """
    with revised(path) as (_, staged):
        return _measure(staged, dataset, console)


def quantise_again(path: Path, dataset: Dataset, console: Console) -> Path:
    """Write the int8 graphs of a bundle anew, measure them on validation users, and return the bundle's folder.

    Raises:
        DataError: the data set is not the one that the bundle was trained on.
    """
    with revised(path) as (destination, staged):
        bundle = Bundle.open(staged)
        check_catalogue(bundle, dataset)
        instances = dataset.instances("valid")
        lists = collect(Graphs(bundle), instances, "B", console)
        graphs = add_int8(staged, bundle, lists, instances, console)
        write_manifest(staged, bundle.manifest.model_copy(update={"graphs": graphs}))
    return destination


def claim(plan: Plan, dataset: Dataset) -> None:
    """Record what the work folder of a plan is for.

    Raises:
        TrainingError: it is for something else.
    """
    digest = hashlib.sha256()
    for sequence in dataset.sequences:
        digest.update(sequence.tobytes())
    for column in ("item_id", "text"):
        digest.update(json.dumps(dataset.items[column].to_pylist()).encode())
    purpose = {
        "preset": asdict(plan.preset),
        "embedder": plan.embedder,
        "tokenizer": plan.tokenizer,
        "collisions": plan.collisions,
        "runtime": asdict(plan.runtime),
        "iirg": plan.iirg,
        "data": digest.hexdigest(),
    }
    text = json.dumps(purpose, indent=1, sort_keys=True)
    record = plan.work / RECORD
    plan.work.mkdir(parents=True, exist_ok=True)
    if record.exists() and record.read_text() != text:
        raise TrainingError(
            f"{plan.work} holds a run with other data or options (see {record}). "
            "Pass --fresh to start over, or another --work folder."
        )
    record.write_text(text)


def _popularity(dataset: Dataset) -> NDArray[np.int64]:
    return np.bincount(np.concatenate(dataset.training_sequences()), minlength=dataset.num_items + 1)


def _without_history(values: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if key != "history"}
