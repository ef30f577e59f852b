"""`tandem train` from events to a published bundle, killed on the way once; trained three times for the whole file."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

import training.cli
from models.bundle import Bundle, fusion_file, read_manifest
from models.ensemble import METHODS, EnsembleParameters
from models.errors import TrainingError
from models.graphs import Graphs
from models.networks.beam import TigerBeam
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.tiger import Tiger, TigerConfig
from training.data.dataset import Dataset, load_dataset
from training.data.demo import write_demo
from training.export import level_tensors
from training.publish import next_version, publish, write_manifest
from training.tokenizers import registry

ROOT = Path(__file__).parents[2]
TANDEM = "import training.cli, typer; app = typer.Typer(); training.cli.register(app); app()"
NETWORKS = ("sasrec", "tiger", "sid_mlp", "sid_mlp_pp")
Fingerprints = dict[str, tuple[int, str]]
PATIENCE = 600  # seconds until the first TIGER checkpoint


@dataclass(frozen=True)
class Shop:
    """Where everything of these tests lies."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def out(self) -> Path:
        return self.folder / "bundles"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    def arguments(self, *more: str) -> list[str]:
        options = {"--name": "demo", "--preset": "tiny", "--embedder": "tfidf", "--out": self.out, "--work": self.work}
        words = [str(part) for pair in options.items() for part in pair]
        return ["train", str(self.data), *words, "--fp32", "--iirg", *more]

    def tandem(self, *arguments: str) -> str:
        """Run a command of `tandem` in this process; its errors are raised here."""
        app = typer.Typer()
        training.cli.register(app)
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = Shop(tmp_path_factory.mktemp("pipeline"))
    write_demo(shop.data, items=720, users=600)
    return shop


def fingerprints(folder: Path) -> Fingerprints:
    """When each file was written, and what is in it."""
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture(scope="module")
def killed(shop: Shop) -> Fingerprints:
    """The work folder after SIGKILL in the middle of TIGER's training."""
    with (shop.folder / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", TANDEM, *shop.arguments()],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        deadline = time.monotonic() + PATIENCE
        while not (shop.work / "tiger.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        assert process.wait() == -signal.SIGKILL, (shop.folder / "killed.log").read_text()
    return fingerprints(shop.work)


@pytest.fixture(scope="module")
def resumed(shop: Shop, killed: Fingerprints) -> Fingerprints:
    """The work folder after the killed run went on to its end and published version 1."""
    output = shop.tandem(*shop.arguments("--json", str(shop.folder / "train.json")))
    assert f"published {shop.out / 'demo' / '1'}" in output.replace("\n", "")
    return fingerprints(shop.work)


@pytest.fixture(scope="module")
def first(shop: Shop, resumed: Fingerprints) -> Path:
    """Version 1."""
    return shop.out / "demo" / "1"


@pytest.fixture(scope="module")
def second(shop: Shop, first: Path) -> Path:
    """Version 2: the same from the start, uninterrupted."""
    shop.tandem(*shop.arguments("--fresh"))
    return shop.out / "demo" / "2"


@pytest.fixture(scope="module")
def dataset(shop: Shop) -> Dataset:
    return load_dataset(shop.data)


@pytest.fixture(scope="module")
def bundle(first: Path) -> Bundle:
    return Bundle.open(first)


def test_a_killed_run_is_resumed_not_repeated(killed: Fingerprints, resumed: Fingerprints) -> None:
    assert not [name for name in killed if name.startswith("sid_mlp")]  # it was killed before that
    for name in ("embeddings.npy", "tokenizer.npz", "sasrec.pt", "sasrec.best.pt"):
        assert resumed[name] == killed[name]  # not even written again
    assert set(resumed) >= {f"{name}{best}.pt" for name in NETWORKS for best in ("", ".best")}
    assert not [name for name in resumed if name.endswith(".partial")]


def test_the_manifest_tells_what_the_bundle_is(bundle: Bundle, dataset: Dataset) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.version, manifest.items) == ("demo", 1, dataset.num_items)
    assert (manifest.levels, manifest.codebook_size) == (3, 64)
    assert set(manifest.graphs) == set(NETWORKS)
    assert {entry.width for entry in manifest.graphs.values()} == {20}
    for name in NETWORKS[1:]:
        parameters = manifest.ensembles[name]
        assert list(parameters.validation) == list(METHODS)
        assert parameters.validation[parameters.method] == max(parameters.validation.values())
        assert fusion_file(name) in manifest.files
        int8 = manifest.graphs[name].int8
        assert int8 is not None
        assert int8.file in manifest.files
        assert int8.users == len(dataset.instances("valid").targets)
    assert manifest.graphs["sasrec"].int8 is None
    configuration = manifest.training
    assert (configuration["preset"], configuration["embedder"], configuration["seed"]) == ("tiny", "tfidf", 0)
    assert configuration["data"]["rows"] == sum(map(len, dataset.sequences))
    assert configuration["tokenizer"]["items"] == dataset.num_items
    assert configuration["networks"]["tiger"]["d_model"] == 16
    assert configuration["networks"]["sid_mlp_pp"]["encoder"]["hidden"] == 32
    assert set(configuration["runs"]) == {*NETWORKS, "tiger_whole", "sid_mlp_pp_encoder"}
    assert configuration["networks"]["tiger"]["tasks"] == 2
    assert configuration["iirg"] == {"lambda_1": 1, "lambda_2": 1, "window": 5, "collaborative": 5, "semantic": 5}
    assert configuration["minutes"] >= 0
    for protocol in "AB":
        rows = manifest.metrics["test"]["protocols"][protocol]["rows"]
        assert {"popularity", *NETWORKS, "fixed_tiger", "candidates_sid_mlp"} <= set(rows)


def test_what_train_reports_is_what_the_manifest_says(shop: Shop, bundle: Bundle) -> None:
    reported = json.loads((shop.folder / "train.json").read_text())
    assert reported["bundle"] == "demo@1"
    assert reported["protocols"] == bundle.manifest.metrics["test"]["protocols"]
    assert reported["ensembles"] == {name: p.model_dump(mode="json") for name, p in bundle.manifest.ensembles.items()}


def test_evaluate_reproduces_the_manifest_exactly(shop: Shop, first: Path, bundle: Bundle) -> None:
    report = shop.folder / "reports" / "evaluate.json"
    output = shop.tandem("evaluate", str(first), "--data", str(shop.data), "--json", str(report))
    assert "protocol A" in output
    found: dict[str, Any] = json.loads(report.read_text())
    assert found["split"] == "test"
    assert {name: found[name] for name in bundle.manifest.metrics["test"]} == bundle.manifest.metrics["test"]


def test_what_int8_loses_is_measured_on_validation_users(shop: Shop, first: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(first, tmp_path / "bundle"))
    before = read_manifest(bundle)
    plain = {name: entry.model_copy(update={"int8": None}) for name, entry in before.graphs.items()}
    write_manifest(bundle, before.model_copy(update={"graphs": plain}))
    shop.tandem("quantise", str(bundle), "--data", str(shop.data))
    assert Bundle.open(bundle).manifest == before
    for precision, part in (("fp32", "ndcg_at_10_fp32"), ("int8", "ndcg_at_10")):
        report = tmp_path / f"{precision}.json"
        options = ["--split", "valid", "--precision", precision, "--json", str(report)]
        shop.tandem("evaluate", str(bundle), "--data", str(shop.data), *options)
        found = json.loads(report.read_text())
        assert found["int8"] == (["tiger", "sid_mlp", "sid_mlp_pp"] if precision == "int8" else [])
        for name in ("tiger", "sid_mlp"):
            row = found["protocols"]["B"]["rows"][name]["metrics"]["ndcg@10"]
            assert row[0] == getattr(before.graphs[name].int8, part)


def test_the_tables_are_those_of_the_training_sequences(bundle: Bundle, dataset: Dataset) -> None:
    sequences = dataset.training_sequences()
    counts = [0] * (dataset.num_items + 1)
    for sequence in sequences:
        for item in sequence.tolist():
            counts[item] += 1
    assert bundle.popularity.tolist() == counts
    assert list(bundle.catalogue.item_ids) == dataset.items["item_id"].to_pylist()
    assert bundle.catalogue.attributes(5)["title"] == dataset.items["title"][4].as_py()
    following: dict[int, Counter[int]] = defaultdict(Counter)
    for sequence in sequences:
        for item, successor in pairwise(sequence.tolist()):
            following[item][successor] += 1
    for item in range(1, dataset.num_items + 1):
        row = bundle.transitions.row("forward", item)
        assert dict(zip(row.neighbours[0].tolist(), row.counts[0].tolist(), strict=True)) == following[item]


def test_a_semantic_id_can_be_made_again_with_the_tokenizer(shop: Shop, first: Path, bundle: Bundle) -> None:
    codes = registry.load(first / "tokenizer.npz").encode(np.load(shop.work / "embeddings.npy"))
    np.testing.assert_array_equal(codes, bundle.catalogue.codes[1:, :2])


def test_checkpoints_are_the_weights_of_the_graphs(first: Path, bundle: Bundle) -> None:
    configurations = bundle.manifest.training["networks"]
    sasrec, tiger = SASRec(SASRecConfig(**configurations["sasrec"])), Tiger(TigerConfig(**configurations["tiger"]))
    for name, network in (("sasrec", sasrec), ("tiger", tiger)):
        network.load_state_dict(load_file(first / "checkpoints" / f"{name}.safetensors"))
        network.eval()
    graphs, history = Graphs(bundle), [3, 700, 41]
    levels = level_tensors(bundle.trie, np.ones((1, bundle.catalogue.size + 1), dtype=np.bool_))
    with torch.no_grad():
        logits = sasrec(torch.tensor([history]))
        item_codes, leaf_item = torch.from_numpy(bundle.catalogue.codes), torch.from_numpy(bundle.trie.leaf_item)
        _, scores = TigerBeam(tiger, 20)(torch.tensor([history]), item_codes, leaf_item, levels)
    ranked = graphs.rank([history])
    np.testing.assert_allclose(ranked.scores, logits.topk(20).values, rtol=0, atol=1e-4)
    np.testing.assert_allclose(graphs.generate("tiger", [history]).scores, scores, rtol=0, atol=1e-4)


def test_other_texts_are_other_data(shop: Shop, first: Path, tmp_path: Path) -> None:
    """The same events with one title changed would silently reuse the semantic ids of the old one."""
    shutil.copytree(shop.data, tmp_path, dirs_exist_ok=True)
    items = pq.read_table(tmp_path / "items.parquet")
    texts = ["Another thing", *items["text"].to_pylist()[1:]]
    pq.write_table(items.set_column(items.column_names.index("text"), "text", [texts]), tmp_path / "items.parquet")
    arguments = shop.arguments()
    arguments[1] = str(tmp_path)
    with pytest.raises(TrainingError, match="other data or options"):
        shop.tandem(*arguments)


def test_fresh_deletes_nothing_but_a_work_folder(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    arguments = shop.arguments("--fresh")
    arguments[arguments.index("--work") + 1] = str(tmp_path)
    with pytest.raises(TrainingError, match=r"which holds run\.json"):
        shop.tandem(*arguments)
    assert (tmp_path / "thesis.txt").exists()


def test_fitting_again_gives_the_same_ensembles_and_results(shop: Shop, first: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(first, bundle)
    before = read_manifest(bundle)
    spoilt = {name: EnsembleParameters(method="fixed", alpha=0.0) for name in before.ensembles}
    write_manifest(bundle, before.model_copy(update={"ensembles": spoilt, "metrics": {}}))
    shop.tandem("fit", str(bundle), "--data", str(shop.data))
    assert Bundle.open(bundle).manifest == before


@pytest.mark.parametrize("change", [["--preset", "small"], ["--seed", "1"], ["--embedder", "minilm"], ["--bf16"]])
def test_a_work_folder_of_another_run_is_refused(shop: Shop, first: Path, change: list[str]) -> None:
    before = fingerprints(shop.work)
    plain = shop.arguments()
    plain.remove("--iirg")
    for arguments in (shop.arguments(*change), plain):
        with pytest.raises(TrainingError, match=r"other data or options .*run\.json.*--fresh"):
            shop.tandem(*arguments)
    assert fingerprints(shop.work) == before


def test_a_work_folder_of_other_data_is_refused(shop: Shop, first: Path, tmp_path: Path) -> None:
    write_demo(tmp_path, items=720, users=600, seed=1)
    arguments = shop.arguments()
    arguments[1] = str(tmp_path)
    with pytest.raises(TrainingError, match="other data or options"):
        shop.tandem(*arguments)


def test_training_afresh_makes_version_2_with_the_same_weights(shop: Shop, first: Path, second: Path) -> None:
    """Which also proves the resumed run: killed and continued, it ended with the weights of an uninterrupted one."""
    assert sorted(path.name for path in (shop.out / "demo").iterdir()) == ["1", "2"]
    assert Bundle.open(shop.out / "demo").identity == "demo@2"
    one, two = read_manifest(first), read_manifest(second)
    for name in NETWORKS:
        checkpoint = f"checkpoints/{name}.safetensors"
        weights, again = load_file(first / checkpoint), load_file(second / checkpoint)
        assert weights.keys() == again.keys()
        assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert one.metrics == two.metrics
    assert one.ensembles == two.ensembles
    runs = [{n: (r["best_score"], r["best_epoch"]) for n, r in m.training["runs"].items()} for m in (one, two)]
    assert runs[0] == runs[1]


def test_flat_replaces_what_stands_there(shop: Shop, first: Path, second: Path) -> None:
    flat = shop.folder / "flat"
    publish(first, flat / "demo")
    arguments = shop.arguments("--flat")
    arguments[arguments.index("--out") + 1] = str(flat)
    shop.tandem(*arguments)
    assert [path.name for path in flat.iterdir()] == ["demo"]  # neither the old bundle nor a staging folder is left
    replaced = Bundle.open(flat / "demo")
    assert replaced.path == flat / "demo"
    assert replaced.manifest.created > read_manifest(first).created
    assert replaced.manifest.metrics == read_manifest(second).metrics


def test_flat_does_not_replace_a_folder_of_versions(shop: Shop, first: Path) -> None:
    with pytest.raises(TrainingError, match="--flat"):
        publish(first, shop.out / "demo", replace=True)
    with pytest.raises(TrainingError, match="--out"):
        publish(first, first)
    assert Bundle.open(first).identity == "demo@1"


def test_versions_count_up_from_the_highest(tmp_path: Path) -> None:
    assert next_version(tmp_path / "none") == 1
    for name in ("2", "10", "draft"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11


def test_sid_mlp_pp_can_be_left_out(shop: Shop, second: Path) -> None:
    arguments = shop.arguments("--flat", "--no-plus-plus")
    arguments[arguments.index("--out") + 1] = str(shop.folder / "small")
    shop.tandem(*arguments)
    manifest = read_manifest(shop.folder / "small" / "demo")
    assert set(manifest.graphs) == set(manifest.training["networks"]) == set(NETWORKS[:-1])
    assert not [file for file in manifest.files if "sid_mlp_pp" in file]
    assert not [run for run in manifest.training["runs"] if run.startswith("sid_mlp_pp")]
    rows = manifest.metrics["test"]["protocols"]["B"]["rows"]
    whole = read_manifest(second).metrics["test"]["protocols"]["B"]["rows"]
    assert rows == {name: row for name, row in whole.items() if not name.endswith("sid_mlp_pp")}
