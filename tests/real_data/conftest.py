"""Published figures on public data sets, whose rows this repository may not hold.

Collected only when TANDEM_REAL_DATA names the folder that holds the data sets; see docs/training.md.
"""

import os
from pathlib import Path

import pytest

FOLDER = os.environ.get("TANDEM_REAL_DATA")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]


@pytest.fixture(scope="session")
def folder() -> Path:
    assert FOLDER
    return Path(FOLDER)
