"""The decoders that `benchmarks.decode` compares, all over one catalogue and one set of weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.catalogues import beauty_like
from benchmarks.flops import flops
from benchmarks.hugging_face import ConstrainedGenerate
from models.bundle import Bundle
from models.histories import pad
from models.networks.beam import TigerBeam
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.role_encoder import RoleEncoderConfig
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig, SidMlpPlusPlus, SidMlpPlusPlusConfig
from models.networks.tiger import Tiger, TigerConfig
from models.networks.topk import SASRecTopK
from models.sessions import open_session
from models.trie import Trie
from training.checkpoints import Networks, load_networks
from training.data.dataset import load_dataset
from training.evaluate import check_catalogue
from training.export import Search, export_generative, export_sasrec, level_tensors
from training.publish import CHECKPOINTS, plus_plus_beam
from training.quantise import quantise

HISTORY = 20
POOL = 1000  # synthetic histories to draw from
PEER, TORCH = "Hugging Face + trie", "TIGER, PyTorch"
TIGER, SID_MLP, PLUS_PLUS, SASREC = "TIGER, one graph", "SID-MLP, one graph", "SID-MLP++, one graph", "SASRec"
PROTOTYPE = RoleEncoderConfig(layers=2, hidden=512)
SEARCHES: Mapping[str, Callable[[Networks, int], Search]] = {
    TIGER: lambda networks, beams: FusedTigerBeam(networks.tiger, beams),
    SID_MLP: lambda networks, beams: SidMlpBeam(
        FusedEncoder(networks.tiger.encoder), networks.sid_mlp, beams, skip_forced=True
    ),
    PLUS_PLUS: lambda networks, beams: plus_plus_beam(
        cast("SidMlpPlusPlus", networks.sid_mlp_pp), beams, skip_forced=True
    ),
}
Decoder = Callable[[], NDArray[np.int64]]
"""Decodes a batch of histories and returns items [batch, beams]."""


def int8(name: str) -> str:
    """What the int8 form of a graph is called."""
    return f"{name}, int8"


@dataclass(frozen=True)
class Subject:
    """What is decoded with, and for whom."""

    name: str
    networks: Networks
    codes: NDArray[np.int64]  # [N + 1, D]
    histories: Sequence[NDArray[np.integer]]

    @classmethod
    def untrained(cls) -> "Subject":
        """The papers' sizes over 12,101 items with the fan-out of Beauty, and random histories of 20 items."""
        torch.manual_seed(0)
        codes = beauty_like()
        tiger = Tiger(TigerConfig()).eval()
        student = SidMlp(tiger.config, SidMlpConfig()).eval()
        sasrec = SASRec(SASRecConfig(items=len(codes) - 1)).eval()
        histories = np.random.default_rng(0).integers(1, len(codes), (POOL, HISTORY))
        plus_plus = SidMlpPlusPlus(tiger.config, SidMlpPlusPlusConfig(PROTOTYPE, student.config)).eval()
        networks = Networks(sasrec=sasrec, tiger=tiger, sid_mlp=student, sid_mlp_pp=plus_plus)
        return cls("untrained", networks, codes, list(histories))

    @classmethod
    def trained(cls, bundle: Path, data: Path) -> "Subject":
        """The networks of a bundle, and the test users of the data set it was trained on."""
        opened, dataset = Bundle.open(bundle), load_dataset(data)
        check_catalogue(opened, dataset)
        networks = load_networks(opened.path / CHECKPOINTS)
        return cls(opened.identity, networks, opened.catalogue.codes, dataset.instances("test").histories)

    @property
    def graphs(self) -> list[str]:
        """What there is to export: a bundle may have no SID-MLP++."""
        return [name for name in (*SEARCHES, SASREC) if name != PLUS_PLUS or self.networks.sid_mlp_pp]

    def draw(self, batch: int, seed: int) -> list[NDArray[np.integer]]:
        """A batch of different histories."""
        chosen = np.random.default_rng((batch, seed)).choice(len(self.histories), batch, replace=False)
        return [self.histories[i] for i in chosen]


class Decoders:
    """The networks of a subject as graphs, exported once for each width and opened for a number of threads."""

    def __init__(self, subject: Subject, widths: Sequence[int], folder: Path, console: Console) -> None:
        self.subject = subject
        self.trie, self.item_codes = Trie.build(subject.codes), torch.from_numpy(subject.codes)
        self._peer = ConstrainedGenerate(subject.networks.tiger, self.item_codes)
        self._tables = {"item_codes": subject.codes, **self.trie.tables()}
        self._paths: dict[tuple[str, int], Path] = {}
        self._sessions: dict[tuple[str, int], Any] = {}
        self._flops: dict[tuple[str, int, tuple[int, ...]], int] = {}
        for beams in widths:
            for name in subject.graphs:
                console.print(f"exporting {name} with {beams} beams")
                exact, rounded = (folder / f"{len(self._paths) + form}.onnx" for form in range(2))
                self._export(name, beams, exact)
                quantise(exact, rounded)
                self._paths |= {(name, beams): exact, (int8(name), beams): rounded}

    def open(self, threads: int) -> None:
        """Give every graph, and PyTorch, so many threads."""
        torch.set_num_threads(threads)
        self._sessions = {key: open_session(path, threads) for key, path in self._paths.items()}

    def contestants(self, histories: Sequence[NDArray[np.integer]], beams: int) -> dict[str, Decoder]:
        """Every decoder for a batch of histories, the peer first."""
        history = torch.from_numpy(self._feeds(TIGER, histories)["history"])
        allowed = np.ones((len(histories), self.trie.items + 1), dtype=np.bool_)
        levels, module = level_tensors(self.trie, allowed), TigerBeam(self.subject.networks.tiger, beams).eval()
        leaf_item = torch.from_numpy(self.trie.leaf_item)
        decoders: dict[str, Decoder] = {
            PEER: lambda: self._peer(history, beams)[0].numpy(),
            TORCH: lambda: module(history, self.item_codes, leaf_item, levels)[0].numpy(),
        }
        for name in self.subject.graphs:
            feeds = self._feeds(name, histories)
            for form in (name, int8(name)):
                decoders[form] = self._decoder(form, beams, feeds)
        return decoders

    def flops(self, name: str, histories: Sequence[NDArray[np.integer]], beams: int) -> int:
        """Operations of a graph for a batch; those of its int8 form are as many."""
        feeds = self._feeds(name, histories)
        key = name, beams, feeds["history"].shape
        if key not in self._flops:  # they depend on nothing but the shapes
            self._flops[key] = flops(self._paths[name, beams], feeds)
        return self._flops[key]

    def _decoder(self, name: str, beams: int, feeds: Mapping[str, Any]) -> Decoder:
        session = self._sessions[name, beams]
        return lambda: session.run(["items"], feeds)[0]

    def _feeds(self, name: str, histories: Sequence[NDArray[np.integer]]) -> dict[str, Any]:
        networks = self.subject.networks
        allowed = np.ones((len(histories), self.trie.items + 1), dtype=np.bool_)
        if name == SASREC:
            return {"history": pad(histories, networks.sasrec.config.max_history), "allowed": allowed}
        masks = {f"allowed_{level}": mask for level, mask in enumerate(self.trie.node_masks(allowed))}
        return {"history": pad(histories, networks.tiger.config.max_history), **self._tables, **masks}

    def _export(self, name: str, beams: int, path: Path) -> None:
        networks = self.subject.networks
        if name == SASREC:
            export_sasrec(SASRecTopK(networks.sasrec, beams), path)
        else:
            export_generative(SEARCHES[name](networks, beams), self.trie, self.item_codes, path)
