"""A real bundle of tiny, untrained networks over invented items: every part works, nothing is any good."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from models.bundle import Int8Entry, read_manifest
from models.catalogue import Catalogue
from models.features import CANDIDATE_FEATURES, REQUEST_FEATURES
from models.fusion import Learned
from models.networks.role_encoder import RoleEncoderConfig
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import SidMlp, SidMlpConfig, SidMlpPlusPlus, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger, TigerConfig
from models.scorer import Scorer
from training.index_build import build_index
from training.publish import Parts, publish, stage, write_manifest
from training.quantise import quantise
from training.tokenizers.collisions import add_collision_digit
from training.tokenizers.residual_kmeans import ResidualKMeans

ITEMS, LEVELS, CODEBOOK, WIDTH = 60, 3, 8, 20


def tiny_parts(seed: int = 0) -> Parts:
    """The parts of the bundle: 60 items, 3 levels (the last separates collisions), 8 codes a level, 20 beams."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    vectors = random.standard_normal((ITEMS, 6)).astype(np.float32)
    tokenizer = ResidualKMeans.fit(vectors, levels=LEVELS - 1, codebook_size=CODEBOOK, restarts=1, iterations=5)
    codes = add_collision_digit(tokenizer.encode(vectors), CODEBOOK)
    table = pa.table({"title": [f"Thing {i}" for i in range(ITEMS)], "price": [float(i) for i in range(ITEMS)]})
    catalogue = Catalogue([f"T{i:03d}" for i in range(ITEMS)], np.concatenate([np.zeros_like(codes[:1]), codes]), table)
    sequences = [random.permutation(ITEMS)[: random.integers(3, 12)].astype(np.int32) + 1 for _ in range(200)]
    config = TigerConfig(
        levels=LEVELS, codebook_size=CODEBOOK, d_model=16, d_ff=32, heads=2, d_kv=8, encoder_layers=1, decoder_layers=1
    )
    return Parts(
        name="tiny",
        catalogue=catalogue,
        codebook_size=CODEBOOK,
        tokenizer=tokenizer,
        transitions=build_index(sequences, ITEMS),
        popularity=np.bincount(np.concatenate(sequences), minlength=ITEMS + 1),
        sasrec=SASRec(SASRecConfig(ITEMS, d_model=16, layers=1, d_ff=32)).eval(),
        tiger=Tiger(config).eval(),
        student=SidMlp(config, SidMlpConfig(heads=2, head_size=8, d_ff=32, hidden=16)).eval(),
        width=WIDTH,
    )


def tiny_plus_plus(parts: Parts) -> SidMlpPlusPlus:
    """An untrained SID-MLP++ for a bundle of these parts."""
    torch.manual_seed(0)
    config = SidMlpPlusPlusConfig(RoleEncoderConfig(layers=2, hidden=24), parts.student.config)
    network = SidMlpPlusPlus(parts.tiger.config, config).eval()
    network.encoder.start_from(parts.tiger.encoder)
    return network


def tiny_bundle(directory: Path, parts: Parts | None = None) -> Path:
    """Export and publish the bundle as `directory`/tiny/1 and return that path."""
    destination = directory / "tiny" / "1"
    with tempfile.TemporaryDirectory() as work:
        staged = Path(work) / "bundle"
        stage(parts or tiny_parts(), {"preset": "tiny"}, 1, staged)
        publish(staged, destination)
    return destination


def with_int8(source: Path, destination: Path, losses: Mapping[str, float]) -> Path:
    """A copy of a bundle where these graphs also have int8 files, which lose so much of NDCG@10 by its manifest."""
    shutil.copytree(source, destination)
    manifest = read_manifest(destination)
    graphs = dict(manifest.graphs)
    for name, loss in losses.items():
        entry = Int8Entry(file=f"{name}.int8.onnx", users=1000, ndcg_at_10=0.5 * (1 - loss), ndcg_at_10_fp32=0.5)
        quantise(destination / graphs[name].on_cpu, destination / entry.file)
        graphs[name] = graphs[name].model_copy(update={"int8": entry})
    write_manifest(destination, manifest.model_copy(update={"graphs": graphs}))
    return destination


def random_scorer(features: int, units: int, seed: int) -> Scorer:
    """A scorer whose every weight matters."""
    random = np.random.default_rng(seed)
    return Scorer(
        mean=random.normal(size=features),
        scale=random.uniform(0.5, 2.0, size=features),
        linear=random.normal(size=features),
        bias=np.asarray(random.normal()),
        hidden=random.normal(size=(features, units)),
        hidden_bias=random.normal(size=units),
        output=random.normal(size=units),
    )


def random_learned(seed: int = 0) -> Learned:
    """The learned parts of an ensemble, drawn rather than fitted."""
    return Learned(random_scorer(len(REQUEST_FEATURES), 0, seed), random_scorer(len(CANDIDATE_FEATURES), 6, seed + 1))
