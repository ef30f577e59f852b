"""`tandem train` with another tokenizer and without a collision digit: every part follows the codes."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from safetensors import safe_open

from models.bundle import Bundle
from models.errors import TrainingError
from models.graphs import Graphs
from training.data.dataset import load_dataset
from training.data.demo import write_demo
from training.loop import Runtime
from training.pipeline import Plan, train
from training.presets import TINY
from training.tokenizers import registry

BRIEF = replace(
    TINY,
    width=5,
    fit_sasrec=replace(TINY.fit_sasrec, epochs=1),
    fit_tiger=replace(TINY.fit_tiger, epochs=1),
    fit_sid_mlp=replace(TINY.fit_sid_mlp, epochs=1),
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("tokenizers")
    write_demo(folder / "data", items=720, users=120)
    return Plan(BRIEF, "shop", folder, folder / "work", "tfidf", Runtime(), tokenizer="rqvae", collisions="reassign")


@pytest.fixture(scope="module")
def bundle(plan: Plan) -> Bundle:
    destination, _ = train(load_dataset(plan.out / "data"), plan, Console(quiet=True))
    return Bundle.open(destination)


def test_levels_follow_from_the_codes(plan: Plan, bundle: Bundle) -> None:
    codes = bundle.catalogue.codes[1:]
    assert (bundle.manifest.levels, bundle.manifest.codebook_size) == (2, 64)
    assert len(np.unique(codes, axis=0)) == len(codes) == 720
    assert bundle.manifest.training["networks"]["tiger"]["levels"] == 2
    with safe_open(bundle.path / "checkpoints" / "tiger.safetensors", "np") as weights:  # type: ignore[no-untyped-call]
        assert weights.get_tensor("encoder.embedding.weight").shape[0] == 1 + 2 * 64 + 2


def test_the_bundle_says_what_made_its_codes(plan: Plan, bundle: Bundle) -> None:
    told = bundle.manifest.training["tokenizer"]
    assert (told["name"], told["collisions"], len(told["levels"])) == ("rqvae", "reassign", 2)
    raw = registry.load(bundle.path / "tokenizer.npz").encode(np.load(plan.work / "embeddings.npy"))
    codes = bundle.catalogue.codes[1:]
    np.testing.assert_array_equal(codes[:, 0], raw[:, 0])
    assert 0 < (codes[:, 1] != raw[:, 1]).mean() < 0.9


@pytest.mark.parametrize("name", ["tiger", "sid_mlp"])
def test_graphs_answer(bundle: Bundle, name: str) -> None:
    answers = Graphs(bundle).generate(name, [[3, 700, 41], [1]])
    assert answers.items.shape == (2, 5)
    assert ((answers.items >= 1) & (answers.items <= 720)).all()
    assert all(len(set(row)) == 5 for row in answers.items.tolist())


@pytest.mark.parametrize("change", [{"tokenizer": "opq"}, {"collisions": "digit"}])
def test_a_work_folder_of_other_codes_is_refused(plan: Plan, bundle: Bundle, change: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="other data or options"):
        train(load_dataset(plan.out / "data"), replace(plan, **change), Console(quiet=True))  # type: ignore[arg-type]
