"""What the tests of the recipes share: a small demo shop, and room for results beside it."""

from pathlib import Path

import pytest

from training.data.dataset import Dataset, load_dataset
from training.data.demo import write_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    write_demo(folder / "data", items=720, users=250, seed=0)
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder / "data")
