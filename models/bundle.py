"""The bundle: the only thing that passes from training to service.

A directory `<name>/<version>/` with `manifest.json` and the files it lists. Opening one verifies the size and the
sha256 of every file before anything is read from it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from models.archives import read_arrays
from models.catalogue import Catalogue
from models.ensemble import EnsembleParameters
from models.errors import BundleError
from models.features import Facts
from models.fusion import Fusion, Learned
from models.transitions import TransitionIndex
from models.trie import Trie

SCHEMA_VERSION: Literal[2] = 2
MANIFEST = "manifest.json"
ITEMS, TRANSITIONS, POPULARITY, TOKENIZER = "items.parquet", "transitions.npz", "popularity.npz", "tokenizer.npz"

GenerativeName = Literal["tiger", "sid_mlp", "sid_mlp_pp"]
GENERATIVE: tuple[GenerativeName, ...] = get_args(GenerativeName)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Model):
    """Size in bytes and sha256 of one file of a bundle."""

    size: int
    sha256: str


class Int8Entry(_Model):
    """The same graph with weights of 8 bits, and what that costs: NDCG@10 of both on the same validation users.

    The history is masked (protocol B), as in the service.
    """

    file: str
    users: int
    ndcg_at_10: float
    ndcg_at_10_fp32: float

    @property
    def loss(self) -> float:
        """The share of NDCG@10 that is lost; below 0 where there is a gain."""
        return 1.0 - self.ndcg_at_10 / self.ndcg_at_10_fp32 if self.ndcg_at_10_fp32 else 0.0


class GraphEntry(_Model):
    """One ONNX graph and what a caller must know to run it."""

    file: str
    max_history: int  # items
    width: int  # length of the answer: beams, or top-k
    parameters: int  # trained weights of the network
    normalisation: Literal["vocabulary", "children", "catalogue"]
    """Over what a score's probabilities sum to one; `catalogue` scores are raw logits."""
    cpu: str | None = None
    """A file of the same answers for a CPU only: how many rows it computes depends on the data."""
    int8: Int8Entry | None = None

    @property
    def on_cpu(self) -> str:
        """The exact file that a CPU runs, and of which `int8` is made."""
        return self.cpu or self.file


class Manifest(_Model):
    """What a bundle holds and where it comes from."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    version: int
    created: str  # ISO 8601, UTC
    items: int
    levels: int
    codebook_size: int
    graphs: Mapping[str, GraphEntry]
    ensembles: Mapping[str, EnsembleParameters]  # by generative graph
    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    files: Mapping[str, FileEntry]


def digest(path: Path) -> FileEntry:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        return FileEntry(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def describe_files(directory: Path) -> dict[str, FileEntry]:
    """Entries of all files below `directory` except the manifest, by relative path."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(directory).as_posix(): digest(path) for path in paths}


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, verified and loaded except for its graphs (see `models.graphs`)."""

    path: Path
    manifest: Manifest
    catalogue: Catalogue
    trie: Trie
    transitions: TransitionIndex
    popularity: NDArray[np.int64]  # [N + 1], training interactions of each item
    facts: Facts
    fusions: Mapping[str, Fusion]  # by generative graph

    @property
    def identity(self) -> str:
        """Name and version, as in `demo@1`."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Verify and load the bundle in `path`, or its newest version when `path` holds versions.

        Raises:
            BundleError: something is missing, changed, or of another schema; the message names the file.
        """
        directory = newest_version(path)
        manifest = read_manifest(directory)
        verify(directory, manifest)
        catalogue = Catalogue.load(directory / ITEMS)
        if catalogue.size != manifest.items:
            raise BundleError(f"the manifest of {directory} promises {manifest.items} items, got {catalogue.size}")
        popularity = read_arrays(directory / POPULARITY).get("counts", np.empty(0))
        if popularity.shape != (manifest.items + 1,):
            raise BundleError(
                f"{directory / POPULARITY} must hold counts of {manifest.items} items and the padding, got an array of "
                f"shape {popularity.shape}. Publish the bundle again."
            )
        transitions = TransitionIndex.load(directory / TRANSITIONS)
        facts = Facts.build(transitions, catalogue.codes, popularity)
        return cls(
            path=directory,
            manifest=manifest,
            catalogue=catalogue,
            trie=Trie.build(catalogue.codes),
            transitions=transitions,
            popularity=popularity,
            facts=facts,
            fusions={name: _fusion(directory, manifest, name, facts) for name in manifest.ensembles},
        )


def fusion_file(generative: str) -> str:
    """The file that holds the learned parts of the ensemble of a generative graph."""
    return f"fusion_{generative}.npz"


def _fusion(directory: Path, manifest: Manifest, generative: str, facts: Facts) -> Fusion:
    file, parameters = fusion_file(generative), manifest.ensembles[generative]
    learned = Learned.load(directory / file) if file in manifest.files else None
    if learned is None and parameters.method in ("learned", "candidates"):
        raise BundleError(
            f"the ensemble of {generative} in {directory} uses method {parameters.method}, which needs {file}; it is "
            "not in the manifest. Fit the ensembles again: tandem fit."
        )
    return Fusion(parameters, learned, facts)


def newest_version(path: Path) -> Path:
    """`path` itself if it holds a manifest, else its highest numbered sub-folder."""
    if (path / MANIFEST).is_file():
        return path
    versions = [child for child in path.glob("*") if child.name.isdigit() and (child / MANIFEST).is_file()]
    if not versions:
        raise BundleError(f"a bundle is a folder with {MANIFEST}, or with numbered versions of it; {path} has neither")
    return max(versions, key=lambda child: int(child.name))


def read_manifest(directory: Path) -> Manifest:
    """Parse the manifest of a bundle.

    Raises:
        BundleError: it is not JSON or not of this schema.
    """
    text = (directory / MANIFEST).read_bytes()
    try:
        raw = json.loads(text)
        version = raw.get("schema_version")
    except (ValueError, AttributeError) as error:
        raise BundleError(f"{directory / MANIFEST} must be a JSON object: {error}") from error
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"this release reads bundles of schema {SCHEMA_VERSION}, got {version!r} in {directory}. Export it again."
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{directory / MANIFEST} does not follow schema {SCHEMA_VERSION}: {error}") from error


def verify(directory: Path, manifest: Manifest) -> None:
    """Compare every listed file with its size and sha256.

    Raises:
        BundleError: a file is missing or differs; nothing of the bundle should be used.
    """
    for name, expected in manifest.files.items():
        path = directory / name
        if not path.is_file():
            raise BundleError(f"{path} is listed in the manifest but missing. Copy the bundle again.")
        found = digest(path)
        if found != expected:
            raise BundleError(
                f"{path} must have {expected.size} bytes with sha256 {expected.sha256}, got {found.size} bytes with "
                f"{found.sha256}. The file is damaged or was edited; copy the bundle again."
            )
