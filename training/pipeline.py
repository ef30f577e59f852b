"""`tandem train`: from a data set to a published bundle. An interrupted run goes on where it stopped."""

import hashlib
import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from models.bundle import Bundle, read_manifest
from models.catalogue import Catalogue
from models.errors import TrainingError
from models.graphs import Graphs
from training.data.dataset import Dataset
from training.embeddings import embed
from training.evaluate import Results, evaluate
from training.fusion import fit_ensemble
from training.index_build import build_index
from training.lists import collect
from training.loop import Runtime
from training.presets import Preset
from training.publish import Parts, next_version, publish, stage, write_manifest
from training.recommenders import Workshop, distil_sid_mlp, train_sasrec, train_tiger
from training.tokenizer import ResidualKMeans, TokenizerReport, add_collision_digit, report


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


def train(dataset: Dataset, plan: Plan, console: Console) -> tuple[Path, Results]:
    """Train, export, fit, evaluate and publish; returns the bundle's folder and its test results.

    Raises:
        TrainingError: the work folder holds a run with other options, or the data cannot be tokenized.
    """
    started = time.perf_counter()
    _claim(plan, dataset)
    console.print(f"{dataset.name}: {len(dataset.user_ids)} users, {dataset.num_items} items; {dataset.report}")
    codes, tokenizer, tokens = _semantic_ids(dataset, plan, console)
    shop = Workshop(dataset, plan.runtime, plan.work, console)
    preset = plan.preset
    sasrec, sasrec_report = train_sasrec(shop, preset.sasrec_config(dataset.num_items), preset.fit_sasrec)
    tiger, tiger_report = train_tiger(shop, codes, preset.tiger, preset.fit_tiger)
    student, student_report = distil_sid_mlp(shop, tiger, codes, preset.sid_mlp, preset.fit_sid_mlp)
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
    )
    staged = plan.work / "bundle"
    shutil.rmtree(staged, ignore_errors=True)
    version = 1 if plan.flat else next_version(plan.out / plan.name)
    training = {
        "preset": preset.name,
        "embedder": plan.embedder,
        "seed": plan.runtime.seed,
        "bf16": plan.runtime.bf16,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {plan.runtime.device}",
        "minutes": round((time.perf_counter() - started) / 60, 1),  # of this call: a resumed run took longer
        "data": {"name": dataset.name, **asdict(dataset.report)},
        "tokenizer": asdict(tokens),
        "networks": {network.__class__.__name__: asdict(network.config) for network in (sasrec, tiger, student)},
        "runs": {r.name: _without_history(asdict(r)) for r in (sasrec_report, tiger_report, student_report)},
    }
    stage(parts, training, version, staged)
    results = _measure(staged, dataset, console)
    destination = plan.out / plan.name if plan.flat else plan.out / plan.name / str(version)
    publish(staged, destination, replace=plan.flat)
    return destination, results


def _measure(staged: Path, dataset: Dataset, console: Console) -> Results:
    """Fit the ensembles on validation lists, evaluate on test, and write both into the staged manifest."""
    bundle = Bundle.open(staged)
    instances = dataset.instances("valid")
    # Protocol B is what the service does by default: it does not recommend what the user has just had.
    lists = collect(Graphs(bundle), instances, "B", console)
    ensembles = {name: fit_ensemble(bundle, name, lists, instances) for name in lists.generated}
    write_manifest(staged, read_manifest(staged).model_copy(update={"ensembles": ensembles}))
    results = evaluate(Bundle.open(staged), dataset, "test", console)
    test = results.model_dump(include={"ranking", "ties", "intervals", "protocols"})
    write_manifest(staged, read_manifest(staged).model_copy(update={"metrics": {"test": test}}))
    return results


def _semantic_ids(
    dataset: Dataset, plan: Plan, console: Console
) -> tuple[NDArray[np.int64], ResidualKMeans, TokenizerReport]:
    """Codes [N + 1, D] with the tokenizer that made them, from the work folder where a run was interrupted."""
    preset, stored = plan.preset, plan.work / "tokenizer.npz"
    vectors_path = plan.work / "embeddings.npy"
    if not vectors_path.exists():
        console.print(f"embedding {dataset.num_items} item texts with {plan.embedder}")
        np.save(vectors_path, embed(dataset.items["text"].to_pylist(), plan.embedder, seed=plan.runtime.seed))
    vectors = np.load(vectors_path)
    if not stored.exists():
        tokenizer = ResidualKMeans.fit(
            vectors,
            levels=preset.codebooks,
            codebook_size=preset.codebook_size,
            restarts=preset.restarts,
            seed=plan.runtime.seed,
        )
        tokenizer.save(stored)
    tokenizer = ResidualKMeans.load(stored)
    codes, residual = tokenizer.encode(vectors)
    quality = report(codes, residual, preset.codebook_size)
    console.print(quality)
    unique = add_collision_digit(codes, preset.codebook_size)
    return np.concatenate([np.zeros_like(unique[:1]), unique]), tokenizer, quality


def _claim(plan: Plan, dataset: Dataset) -> None:
    """Record what the work folder is for, or refuse when it is for something else."""
    digest = hashlib.sha256()
    for sequence in dataset.sequences:
        digest.update(sequence.tobytes())
    purpose = {
        "preset": asdict(plan.preset),
        "embedder": plan.embedder,
        "runtime": asdict(plan.runtime),
        "sequences": digest.hexdigest(),
    }
    text = json.dumps(purpose, indent=1, sort_keys=True)
    record = plan.work / "run.json"
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
