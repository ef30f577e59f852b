"""Arrays on disk, as npz archives of a bundle."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import BundleError

# What numpy and zipfile raise on a missing, truncated or altered archive.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an npz archive by name.

    Raises:
        BundleError: the file cannot be read as one.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as archive:
            return dict(archive)
    except _UNREADABLE as error:
        raise BundleError(f"{path} must be an npz archive of arrays, got {error}. Copy the bundle again.") from error
