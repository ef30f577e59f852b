"""What `tandem serve` answers is what evaluation ranks: the committed bundle, its test users, real HTTP."""

from pathlib import Path

import pytest
from rich.console import Console

from loadtest.agree import compare
from models.bundle import Bundle, read_manifest
from tests.service.servers import ROOT, altered, served
from training.data.dataset import Dataset, load_dataset
from training.data.demo import write_demo
from training.publish import write_manifest

USERS = 1000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("shop") / "demo"
    write_demo(folder)
    return load_dataset(folder)


@pytest.mark.parametrize("method", ["learned", "candidates"])
def test_the_service_answers_as_the_offline_fusion_does(method: str, shop: Dataset, tmp_path: Path) -> None:
    path = altered(ROOT / "bundles" / "demo", tmp_path / "bundle", lambda manifest: None)
    manifest = read_manifest(path)
    ensembles = {name: fitted.model_copy(update={"method": method}) for name, fitted in manifest.ensembles.items()}
    write_manifest(path, manifest.model_copy(update={"ensembles": ensembles}))
    with served(path) as server:
        result = compare(server.client, Bundle.open(path), shop, "sid_mlp", USERS, 10, Console(quiet=True))
    assert result["method"] == method
    assert (result["users"], result["degraded"]) == (USERS, 0)
    assert result["differing"] == []
