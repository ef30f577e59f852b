"""Fixtures that the whole suite shares: the tiny bundle is exported once a run, and once more with a SID-MLP++."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from models.bundle import Bundle
from models.graphs import Graphs
from models.networks.sid_mlp import SidMlpPlusPlus
from tests.bundles import tiny_bundle, tiny_parts, tiny_plus_plus, with_int8
from training.checkpoints import save_network
from training.publish import CHECKPOINTS, Parts, export_again

# The first example of a test may have to compile, and no test judges time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def parts() -> Parts:
    return tiny_parts()


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles"), parts)


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    return Bundle.open(bundle_path)


@pytest.fixture(scope="session")
def plus_plus(parts: Parts) -> SidMlpPlusPlus:
    return tiny_plus_plus(parts)


@pytest.fixture(scope="session")
def plus_plus_path(bundle_path: Path, plus_plus: SidMlpPlusPlus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle after a SID-MLP++ was added to it."""
    path = Path(shutil.copytree(bundle_path, tmp_path_factory.mktemp("plus_plus") / "tiny" / "1"))
    save_network(plus_plus, path / CHECKPOINTS / "sid_mlp_pp.safetensors")
    export_again(path)
    return path


@pytest.fixture(scope="session")
def graphs(bundle: Bundle) -> Graphs:
    return Graphs(bundle)


@pytest.fixture(scope="session")
def int8_path(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with int8 graphs, of which TIGER's loses little by the manifest and SID-MLP's too much."""
    return with_int8(bundle_path, tmp_path_factory.mktemp("int8") / "tiny", {"tiger": 0.004, "sid_mlp": 0.006})
