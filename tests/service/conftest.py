"""One bundle with adaptive ensembles, one `tandem serve` of it for all tests that do not harm it, and Redis servers."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from redis.asyncio import Redis

from models.bundle import Bundle, fusion_file, read_manifest
from models.ensemble import EnsembleParameters, Sigmoid
from service.index_rows import Layout
from service.redis_link import RedisLink
from service.redis_server import RedisServer
from tests.bundles import random_learned
from tests.service.redis_parts import Connect
from tests.service.servers import Served, altered, served
from training.index_build import build_index
from training.publish import write_manifest

MANY = 2000

ENSEMBLES = {
    "tiger": EnsembleParameters(method="candidates"),
    "sid_mlp": EnsembleParameters(method="learned", weights={"learned": Sigmoid(k=9.0, tau=0.5)}),
}


@pytest.fixture(scope="session")
def adaptive_path(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TIGER's ensemble goes candidate by candidate, SID-MLP's by the learned indicator."""
    path = altered(bundle_path, tmp_path_factory.mktemp("adaptive") / "bundle", lambda manifest: None)
    for seed, name in enumerate(ENSEMBLES):
        random_learned(seed).save(path / fusion_file(name))
    write_manifest(path, read_manifest(path).model_copy(update={"ensembles": ENSEMBLES}))
    return path


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


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    server = RedisServer(16)
    await server.start()
    yield server
    server.stop()


@pytest.fixture
async def connect(redis: RedisServer) -> AsyncIterator[Connect]:
    links = Connect(redis.url)
    yield links
    await links.close()


@pytest.fixture
def link(connect: Connect) -> RedisLink:
    return connect(RedisLink)


@pytest.fixture
async def redis_client(redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis.url)
    yield client
    await client.aclose()


@pytest.fixture
def layout(bundle: Bundle) -> Layout:
    return Layout.of(bundle)


@pytest.fixture(scope="session")
def many() -> Layout:
    """An index of several chunks, about 3 MB."""
    random = np.random.default_rng(5)
    sequences = [random.integers(1, MANY + 1, 12).astype(np.int32) for _ in range(3500)]
    return Layout("many@1-0123456789ab", build_index(sequences, MANY))
