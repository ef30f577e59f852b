"""Writing a bundle: networks become graphs, everything gets a checksum, and the result appears in one rename."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from models.bundle import (
    ITEMS,
    MANIFEST,
    POPULARITY,
    TOKENIZER,
    TRANSITIONS,
    Bundle,
    GraphEntry,
    Manifest,
    describe_files,
    digest,
    fusion_file,
    newest_version,
)
from models.catalogue import Catalogue
from models.ensemble import EnsembleParameters
from models.errors import TrainingError
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.role_encoder import FusedRoleEncoder
from models.networks.sasrec import SASRec
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpPlusPlus
from models.networks.tiger import Tiger
from models.networks.topk import top_k
from models.transitions import TransitionIndex
from models.trie import Trie
from training.checkpoints import Networks, load_networks, save_networks
from training.export import export_generative, export_sasrec
from training.tokenizers.interface import Tokenizer

CHECKPOINTS = "checkpoints"  # folder of a bundle


@dataclass(frozen=True)
class Parts:
    """Everything a bundle is made of."""

    name: str
    catalogue: Catalogue
    codebook_size: int
    tokenizer: Tokenizer
    transitions: TransitionIndex
    popularity: NDArray[np.int64]
    sasrec: SASRec
    tiger: Tiger
    student: SidMlp
    width: int  # beams, and SASRec's top-k: the lists that the ensemble fuses have one length
    student_pp: SidMlpPlusPlus | None = None


def stage(parts: Parts, training: Mapping[str, Any], version: int, directory: Path) -> None:
    """Write the bundle into `directory`, with default ensembles and no metrics yet."""
    (directory / CHECKPOINTS).mkdir(parents=True)
    parts.catalogue.save(directory / ITEMS)
    parts.tokenizer.save(directory / TOKENIZER)
    parts.transitions.save(directory / TRANSITIONS)
    np.savez_compressed(directory / POPULARITY, counts=parts.popularity)
    networks = Networks(parts.sasrec, parts.tiger, parts.student, parts.student_pp)
    save_networks(networks, directory / CHECKPOINTS)
    graphs = _export(networks, parts.catalogue.codes, parts.width, directory)
    manifest = Manifest(
        name=parts.name,
        version=version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        items=parts.catalogue.size,
        levels=parts.catalogue.codes.shape[1],
        codebook_size=parts.codebook_size,
        graphs=graphs,
        ensembles=_default_ensembles(graphs),
        metrics={},
        training=training,
        files={},
    )
    write_manifest(directory, manifest)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` with fresh checksums of all files beside it."""
    complete = manifest.model_copy(update={"files": describe_files(directory)})
    (directory / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n")


def publish(staged: Path, destination: Path, *, replace: bool = False) -> None:
    """Check that a staged bundle opens, then move it to its place in one rename.

    With `replace`, a bundle that stands there is put aside first.

    Raises:
        TrainingError: something else stands there.
    """
    Bundle.open(staged)
    if destination.exists() and not (replace and (destination / MANIFEST).is_file()):
        raise TrainingError(
            f"{destination} must not exist yet (--flat replaces one bundle, never a folder of versions). "
            "Choose another --name or --out."
        )
    destination.parent.mkdir(parents=True, exist_ok=True)
    # Beside the destination first: a rename is atomic only inside one file system.
    beside = Path(tempfile.mkdtemp(prefix=".staged-", dir=destination.parent))
    try:
        shutil.copytree(staged, beside / "new")
        if destination.exists():
            destination.rename(beside / "old")
        (beside / "new").rename(destination)
    finally:
        shutil.rmtree(beside)


@contextmanager
def revised(path: Path) -> Iterator[tuple[Path, Path]]:
    """The folder of a bundle, and a copy of it to change, which takes the bundle's place in one rename at the end.

    An error inside leaves the bundle as it is.
    """
    destination = newest_version(path)
    with tempfile.TemporaryDirectory() as work:
        staged = Path(shutil.copytree(destination, Path(work) / "bundle"))
        yield destination, staged
        publish(staged, destination, replace=True)


def export_again(path: Path) -> tuple[Path, list[str]]:
    """Write the graphs of a bundle anew from its checkpoints, and put it back in one rename.

    An int8 graph stays where the exact one comes out as it was. Elsewhere it goes, for what it loses is measured on
    data. Returns the bundle's folder and the names of the graphs that lost theirs.

    A checkpoint that was put there since, such as that of a SID-MLP++, gets its graph and a default ensemble.

    Raises:
        BundleError: it is no bundle, or has no checkpoints that this release reads; the bundle stays as it is.
    """
    with revised(path) as (destination, staged):
        bundle = Bundle.open(staged)
        networks, width = load_networks(staged / CHECKPOINTS), bundle.manifest.graphs["tiger"].width
        graphs = _export(networks, bundle.catalogue.codes, width, staged)
        dropped = _take_int8(staged, bundle.manifest, graphs)
        ensembles = _default_ensembles(graphs) | dict(bundle.manifest.ensembles)
        write_manifest(staged, bundle.manifest.model_copy(update={"graphs": graphs, "ensembles": ensembles}))
    return destination, dropped


def strip(path: Path, *, light: bool = False) -> Path:
    """Remove titles, brands, categories and prices from a bundle, keep the items' ids, and return its folder.

    What is left holds trained weights and statistics: it may go where the data set itself may not. A `light` one is
    also without SID-MLP++, by far the largest model, and without what `tandem export` and `tandem quantise` make again.

    Raises:
        BundleError: it is no bundle; nothing is changed.
    """
    with revised(path) as (destination, staged):
        bundle = Bundle.open(staged)
        Catalogue(bundle.catalogue.item_ids, bundle.catalogue.codes, pa.table({})).save(staged / ITEMS)
        write_manifest(staged, _lightened(staged, bundle.manifest) if light else bundle.manifest)
    return destination


def _lightened(directory: Path, manifest: Manifest) -> Manifest:
    """Delete the files that a light bundle lacks; what is left to say."""
    large = "sid_mlp_pp"
    graphs = {
        name: entry.model_copy(update={"cpu": None, "int8": None})
        for name, entry in _without(large, manifest.graphs).items()
    }
    kept = {entry.file for entry in graphs.values()}
    unwanted = [directory / fusion_file(large), directory / CHECKPOINTS / f"{large}.safetensors"]
    for path in (*directory.glob("*.onnx"), *unwanted):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    rest = {"ensembles": _without(large, manifest.ensembles), "metrics": _without(large, manifest.metrics)}
    return manifest.model_copy(update={"graphs": graphs, **rest})


def _without(name: str, found: Any) -> Any:
    """What is nested in `found` but for the entries whose keys hold `name`."""
    if not isinstance(found, Mapping):
        return found
    return {key: _without(name, value) for key, value in found.items() if name not in key}


def _take_int8(directory: Path, before: Manifest, graphs: dict[str, GraphEntry]) -> list[str]:
    """Give the new `graphs` the int8 files of the unchanged ones; delete the other files and return their names."""
    dropped = []
    for name, old in before.graphs.items():
        if old.int8 is None:
            continue
        if digest(directory / graphs[name].on_cpu) == before.files[old.on_cpu]:
            graphs[name] = graphs[name].model_copy(update={"int8": old.int8})
        else:
            (directory / old.int8.file).unlink()
            dropped.append(name)
    return dropped


def next_version(folder: Path) -> int:
    """One more than the highest numbered version in `folder`."""
    return 1 + max((int(child.name) for child in folder.glob("*") if child.name.isdigit()), default=0)


def parameter_count(network: nn.Module) -> int:
    """Number of trained weights."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _default_ensembles(graphs: Mapping[str, GraphEntry]) -> dict[str, EnsembleParameters]:
    return {name: EnsembleParameters(method="fixed") for name in graphs if name != "sasrec"}


def _export(networks: Networks, codes: NDArray[np.int64], width: int, directory: Path) -> dict[str, GraphEntry]:
    sasrec, tiger, sid_mlp, sid_mlp_pp = networks
    trie, item_codes = Trie.build(codes), torch.from_numpy(codes)
    beams = FusedTigerBeam(tiger, width)
    export_sasrec(top_k(sasrec, width), directory / "sasrec.onnx")
    export_generative(beams, trie, item_codes, directory / "tiger.onnx")

    def entry(name: str, history: int, network: nn.Module, normalisation: str) -> GraphEntry:
        return GraphEntry.model_validate(
            {
                "file": f"{name}.onnx",
                "max_history": history,
                "width": width,
                "parameters": parameter_count(network),
                "normalisation": normalisation,
            }
        )

    def student(name: str, search: Callable[..., SidMlpBeam], network: nn.Module) -> GraphEntry:
        cpu = f"{name}.cpu.onnx"
        export_generative(search(), trie, item_codes, directory / f"{name}.onnx")
        export_generative(search(skip_forced=True), trie, item_codes, directory / cpu)
        return entry(name, longest, network, "children").model_copy(update={"cpu": cpu})

    longest = tiger.config.max_history
    graphs = {
        "sasrec": entry("sasrec", sasrec.config.max_history, sasrec, "catalogue"),
        "tiger": entry("tiger", longest, tiger, "children" if beams.renormalised else "vocabulary"),
        "sid_mlp": student("sid_mlp", partial(SidMlpBeam, FusedEncoder(tiger.encoder), sid_mlp, width), sid_mlp),
    }
    if sid_mlp_pp is not None:
        graphs["sid_mlp_pp"] = student("sid_mlp_pp", partial(plus_plus_beam, sid_mlp_pp, width), sid_mlp_pp)
    return graphs


def plus_plus_beam(network: SidMlpPlusPlus, width: int, *, skip_forced: bool = False) -> SidMlpBeam:
    """The beam search of SID-MLP++ as it is exported."""
    return SidMlpBeam(FusedRoleEncoder(network.encoder), network.student, width, skip_forced=skip_forced)
