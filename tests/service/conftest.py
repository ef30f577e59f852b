"""One bundle with adaptive ensembles, and one `tandem serve` of it, for all tests that do not harm it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.bundle import Bundle
from tests.service.servers import Served, altered, served


def _adaptive(manifest: dict[str, Any]) -> None:
    manifest["ensembles"] = {
        "tiger": {"mode": "adaptive", "indicator": "msp", "k": 25.0, "tau": 0.02},
        "sid_mlp": {"mode": "adaptive", "indicator": "transition", "k": 9.0, "tau": 0.1},
    }


@pytest.fixture(scope="session")
def adaptive_path(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return altered(bundle_path, tmp_path_factory.mktemp("adaptive") / "bundle", _adaptive)


@pytest.fixture(scope="session")
def adaptive(adaptive_path: Path) -> Bundle:
    return Bundle.open(adaptive_path)


@pytest.fixture(scope="session")
def server(adaptive_path: Path) -> Iterator[Served]:
    with served(adaptive_path) as started:
        yield started


@pytest.fixture
def client(server: Served) -> httpx2.Client:
    return server.client
