"""What every tokenizer does: item embeddings to codes, codes back to embeddings, and itself to a file and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from models.archives import read_arrays
from models.errors import TrainingError

Vectors = NDArray[np.float32]
Codes = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]


class Tokenizer(ABC):
    """A fitted tokenizer of D levels, for embeddings of d dimensions.

    Each class has a `fit` of its own, since each takes other options; `registry.fit` is the door to all of them.
    """

    kind: ClassVar[str]
    """The name of the class in a file."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """D, the codes of an item before collisions are resolved."""

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """Number of codes of a level: what was asked for, or fewer where the method has no such number."""

    @abstractmethod
    def encode(self, vectors: Vectors) -> Codes:
        """Codes [N, D] of vectors [N, d], each in 0 .. codebook_size - 1; of new items too."""

    @abstractmethod
    def decode(self, codes: Codes) -> Vectors:
        """The vectors [N, d] that codes [N, D] stand for."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """All that `of_arrays` needs to make the same tokenizer."""

    @classmethod
    @abstractmethod
    def of_arrays(cls, arrays: Arrays) -> Self:
        """The tokenizer that `arrays` came from."""

    def save(self, path: Path) -> None:
        """Write the tokenizer as an .npz of plain arrays."""
        np.savez(path, kind=np.array(self.kind), **self.arrays())  # type: ignore[arg-type]  # no array is a flag

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; `registry.load` finds the class by itself.

        Raises:
            BundleError: the file is not an archive of arrays.
        """
        return cls.of_arrays(read_arrays(path))


def check_enough(vectors: Vectors, codebook_size: int) -> None:
    """Refuse a codebook that has more codes than there are items.

    Raises:
        TrainingError: fewer vectors than codes.
    """
    if len(vectors) < codebook_size:
        raise TrainingError(
            f"a codebook of {codebook_size} needs at least as many items, got {len(vectors)}. Choose a smaller preset."
        )


def steps(total: int, description: str, progress: Progress | None) -> Iterable[int]:
    """0 .. total - 1, shown as a bar of `progress` where there is one."""
    return range(total) if progress is None else progress.track(range(total), description=description)
