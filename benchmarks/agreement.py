"""How far another form of a graph answers as the exact one does, on the trained networks of a bundle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from loadtest.target import walks
from models.bundle import Bundle, newest_version
from models.histories import pad
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.sid_mlp import SidMlpBeam
from models.sessions import Execution, open_graph
from training.checkpoints import load_networks
from training.export import Search, export_generative
from training.publish import CHECKPOINTS

K = 10
Run = Callable[[slice], "Answers"]


class Answers(NamedTuple):
    """Items int64 and scores float32, both [users, width]."""

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


class Trained:
    """The networks of a bundle, and random walks over its transitions as histories."""

    def __init__(self, path: Path, users: int, folder: Path) -> None:
        """Read the bundle at `path`; graphs are written to `folder`."""
        self.bundle = Bundle.open(path)
        self.networks = load_networks(newest_version(path) / CHECKPOINTS)
        self.width = self.bundle.manifest.graphs["tiger"].width
        catalogue = self.bundle.catalogue
        self.histories = [[catalogue.index_of(item_id) or 0 for item_id in walk] for walk in walks(path, users)]
        self._file = folder / "trained.onnx"

    def searches(self) -> dict[str, Search]:
        """The searches that the bundle's graphs were exported from."""
        tiger, student = self.networks.tiger, self.networks.sid_mlp
        return {
            "TIGER": FusedTigerBeam(tiger, self.width).eval(),
            "SID-MLP": SidMlpBeam(FusedEncoder(tiger.encoder), student, self.width).eval(),
        }

    def open(self, search: Search, device: str = "cpu") -> Run:
        """A graph of a search, on `cpu` or `cuda`: decodes the histories of a slice as one batch."""
        bundle = self.bundle
        export_generative(search, bundle.trie, torch.from_numpy(bundle.catalogue.codes), self._file)
        session = open_graph(self._file, Execution(device="cuda" if device == "cuda" else "cpu")).session
        tables = {"item_codes": bundle.catalogue.codes, **bundle.trie.tables()}

        def run(rows: slice) -> Answers:
            history = pad(self.histories[rows], bundle.manifest.graphs["tiger"].max_history)
            allowed = np.ones((len(history), bundle.catalogue.size + 1), dtype=np.bool_)
            masks = {f"allowed_{level}": mask for level, mask in enumerate(bundle.trie.node_masks(allowed))}
            return Answers(*session.run(Answers._fields, {"history": history, **tables, **masks}))

        return run

    def answers(self, run: Run, batch: int) -> Answers:
        """Those to all histories, in batches."""
        parts = [run(slice(start, start + batch)) for start in range(0, len(self.histories), batch)]
        return Answers(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def overlap(items: NDArray[np.int64], others: NDArray[np.int64], k: int) -> float:
    """The share of the best `k` of each row of `others` that is among the best `k` of `items`."""
    pairs = zip(items[:, :k], others[:, :k], strict=True)
    return float(np.mean([np.isin(theirs, ours).mean() for ours, theirs in pairs]))


def agreement(other: Answers, exact: Answers) -> dict[str, Any]:
    """Overlap of the best ten, share of equal best items, and the largest change of the best score."""
    return {
        "users": len(exact.items),
        "overlap_at_10": round(overlap(other.items, exact.items, K), 4),
        "same_best_item": round(float(np.mean(other.items[:, 0] == exact.items[:, 0])), 4),
        "largest_change_of_best_score": round(float(np.abs(other.scores[:, 0] - exact.scores[:, 0]).max()), 5),
    }
