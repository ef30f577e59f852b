"""`tandem tokenizer compare`: every tokenizer on one data set, before any network is trained."""

import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, Field
from rich.progress import Progress

from models.errors import TrainingError
from training.tokenizers import registry
from training.tokenizers.collisions import WAYS, unique_codes
from training.tokenizers.interface import Codes, Tokenizer, Vectors
from training.tokenizers.overlap import title_overlap
from training.tokenizers.quality import LevelReport, TokenizerReport, reconstruction_error, report, report_level

OVERLAP_LENGTHS = (1, 2)


class Resolved(BaseModel):
    """Ids after collisions are resolved one way."""

    moved: float
    """The share of items that lost their last code; 0 where a digit is added."""
    reconstruction_error: float
    last_level: LevelReport
    """The level that was added or changed."""


class Candidate(BaseModel):
    """One tokenizer."""

    name: registry.TokenizerName
    codebook_size: int
    codes: TokenizerReport
    """Before collisions are resolved."""
    overlap: dict[int, float | None]
    """Mean Jaccard overlap of title words of items that share as many first codes; None where no two do."""
    collisions: dict[str, Resolved | str]
    """By way of resolving them; the reason where it cannot be done."""
    seconds: float = Field(exclude=True)  # a file holds what a second run gives again


class Comparison(BaseModel):
    """All tokenizers on one data set."""

    data: str
    embedder: str
    dimensions: int
    levels: int
    codebook_size: int
    seed: int
    random_overlap: float
    """The title overlap of random pairs."""
    candidates: list[Candidate]


def compare(
    data: str,
    embedder: str,
    vectors: Vectors,
    titles: Sequence[str],
    options: registry.TokenizerOptions,
    progress: Progress,
) -> Comparison:
    """Fit every tokenizer to vectors [N, d] of items with these titles, and measure its codes.

    Raises:
        TrainingError: there are too few vectors, or they have too few dimensions.
    """
    candidates = [
        _measure(name, vectors, titles, options, progress)
        for name in progress.track(registry.NAMES, description="tokenizers")
    ]
    return Comparison(
        data=data,
        embedder=embedder,
        dimensions=vectors.shape[1],
        levels=options.levels,
        codebook_size=options.codebook_size,
        seed=options.seed,
        random_overlap=title_overlap(titles, np.empty((len(titles), 0), dtype=np.int64)) or 0.0,
        candidates=candidates,
    )


def _measure(
    name: registry.TokenizerName,
    vectors: Vectors,
    titles: Sequence[str],
    options: registry.TokenizerOptions,
    progress: Progress,
) -> Candidate:
    started = time.perf_counter()
    tokenizer = registry.fit(name, vectors, options, progress)
    codes = tokenizer.encode(vectors)
    seconds = time.perf_counter() - started
    return Candidate(
        name=name,
        codebook_size=tokenizer.codebook_size,
        codes=report(tokenizer, codes, vectors),
        overlap={n: title_overlap(titles, codes[:, :n]) for n in OVERLAP_LENGTHS if n <= tokenizer.levels},
        collisions=resolve(tokenizer, vectors, codes, options.codebook_size),
        seconds=seconds,
    )


def resolve(tokenizer: Tokenizer, vectors: Vectors, codes: Codes, codebook_size: int) -> dict[str, Resolved | str]:
    """What becomes of codes [N, D] of vectors [N, d] by each way of resolving collisions, or why one cannot."""
    found: dict[str, Resolved | str] = {}
    for way in WAYS:
        try:
            unique = unique_codes(tokenizer, vectors, codes, way, codebook_size)
        except TrainingError as error:
            found[way] = str(error)
            continue
        kept, last = unique[:, : tokenizer.levels], unique.shape[1]
        found[way] = Resolved(
            moved=float((kept != codes).any(1).mean()),
            reconstruction_error=reconstruction_error(tokenizer, kept, vectors),
            last_level=report_level(unique, last, codebook_size if way == "digit" else tokenizer.codebook_size),
        )
    return found
