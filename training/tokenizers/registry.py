"""Every tokenizer by name, fitted and loaded in one place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from rich.progress import Progress

from models.archives import read_arrays
from models.errors import TrainingError
from training.tokenizers.autoencoder import AutoencoderOptions
from training.tokenizers.fsq import FSQ
from training.tokenizers.interface import Tokenizer, Vectors
from training.tokenizers.opq import OPQ
from training.tokenizers.residual_kmeans import ResidualKMeans
from training.tokenizers.rqvae import RQVAE

TokenizerName = Literal["rkmeans", "rkmeans-balanced", "rqvae", "opq", "fsq"]

NAMES: tuple[TokenizerName, ...] = get_args(TokenizerName)

CLASSES: Mapping[str, type[Tokenizer]] = {cls.kind: cls for cls in (ResidualKMeans, RQVAE, OPQ, FSQ)}


@dataclass(frozen=True)
class TokenizerOptions:
    """What all tokenizers are fitted with; each takes of it what concerns it."""

    levels: int
    codebook_size: int
    restarts: int = 5  # of each k-means
    autoencoder: AutoencoderOptions = field(default_factory=AutoencoderOptions)
    device: str = "cpu"  # of the autoencoder's training
    seed: int = 0


def fit(
    name: TokenizerName, vectors: Vectors, options: TokenizerOptions, progress: Progress | None = None
) -> Tokenizer:
    """Fit the tokenizer of that name to vectors [N, d].

    Raises:
        TrainingError: there are too few vectors, or they have too few dimensions.
    """
    common: dict[str, Any] = {
        "levels": options.levels,
        "codebook_size": options.codebook_size,
        "seed": options.seed,
        "progress": progress,
    }
    match name:
        case "rkmeans" | "rkmeans-balanced":
            balanced = name == "rkmeans-balanced"
            return ResidualKMeans.fit(vectors, restarts=options.restarts, balanced=balanced, **common)
        case "opq":
            return OPQ.fit(vectors, restarts=options.restarts, **common)
        case "rqvae":
            network, device = options.autoencoder, options.device
            return RQVAE.fit(vectors, options=network, restarts=options.restarts, device=device, **common)
        case "fsq":
            return FSQ.fit(vectors, options=options.autoencoder, device=options.device, **common)


def load(path: Path) -> Tokenizer:
    """Read a tokenizer of any kind; a file that names none is of residual k-means.

    Raises:
        BundleError: the file is not an archive of arrays.
        TrainingError: it is of a kind that this release does not know.
    """
    arrays = read_arrays(path)
    kind = str(arrays.get("kind", ResidualKMeans.kind))
    if kind not in CLASSES:
        raise TrainingError(f"{path} must hold a tokenizer of kind {', '.join(CLASSES)}, got {kind!r}. Update Tandem.")
    return CLASSES[kind].of_arrays(arrays)
