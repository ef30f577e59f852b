"""Fixtures that the whole suite shares: the tiny bundle is exported once a run."""

from pathlib import Path

import pytest

from models.bundle import Bundle
from models.graphs import Graphs
from tests.bundles import tiny_bundle, tiny_parts
from training.publish import Parts


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
def graphs(bundle: Bundle) -> Graphs:
    return Graphs(bundle)
