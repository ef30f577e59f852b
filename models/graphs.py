"""Runs the ONNX graphs of a bundle; evaluation and service call the very same code.

Every graph is one call: encoder, all decode steps, trie, masks and top-k inside. `models.sessions` chooses the device;
with one thread a session, each call on a CPU uses one core (see docs/LOG.md for why that is the default).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.bundle import Bundle
from models.histories import History, pad
from models.indicators import Ranked
from models.precision import CPU, choose
from models.replay import HISTORY, Buckets, Replay, Tables
from models.sessions import CUDA, Execution, obstacle_to_gpu, open_graph

Allowed = NDArray[np.bool_]
SASREC = "sasrec"
DEFAULT = Execution()


class Generated(NamedTuple):
    """A generative graph's answer to `B` histories.

    Attributes:
        items: int64 [B, K], best first, distinct, 0 for an empty slot (fewer than K items allowed).
        scores: float32 [B, K], sums of log-probabilities, -inf for an empty slot.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


class Graphs:
    """All graphs of one bundle, ready to run."""

    def __init__(self, bundle: Bundle, execution: Execution = DEFAULT) -> None:
        self.bundle = bundle
        self.entries = bundle.manifest.graphs
        provider = CPU if obstacle_to_gpu(execution.device) else CUDA
        self.choices = choose(self.entries, execution.precision, provider)
        self.opened = {
            name: open_graph(bundle.path / choice.file, execution, record=name in execution.replay)
            for name, choice in self.choices.items()
        }
        fixed = {"item_codes": bundle.catalogue.codes, **bundle.trie.tables()}
        # Held once on each device in use, for all graphs.
        self._tables: dict[str, Tables] = {
            device: {name: ort.OrtValue.ortvalue_from_numpy(table, device) for name, table in fixed.items()}
            for device in {opened.device for opened in self.opened.values()}
        }
        self._replays = {
            name: Replay(
                opened.session,
                opened.device,
                self.tables(name),
                Buckets.up_to(execution.replay[name], self.entries[name].max_history),
            )
            for name, opened in self.opened.items()
            if opened.records
        }

    def tables(self, name: str) -> Tables:
        """The inputs of a graph that are the same for all requests: the catalogue and its trie."""
        return {} if name == SASREC else self._tables[self.opened[name].device]

    def provider(self, name: str) -> str:
        """The execution provider that really runs a graph."""
        return self.opened[name].provider

    def rank(self, histories: Sequence[History], allowed: Allowed | None = None) -> Ranked:
        """SASRec's best items for each history, among `allowed` [B, N + 1] (None: all items)."""
        feeds = {
            HISTORY: pad(histories, self.entries[SASREC].max_history),
            "allowed": self._allowed(len(histories), allowed),
        }
        return Ranked(*self._run(SASREC, Ranked._fields, feeds))

    def generate(self, name: str, histories: Sequence[History], allowed: Allowed | None = None) -> Generated:
        """The beam search of graph `name` for each history, among `allowed` [B, N + 1] (None: all items)."""
        return self.search(name, histories, self.bundle.trie.node_masks(self._allowed(len(histories), allowed)))

    def search(self, name: str, histories: Sequence[History], masks: Sequence[Allowed]) -> Generated:
        """As `generate`, for masks [B, nodes] of the nodes of level 1..D (`models.masks`)."""
        feeds = {
            HISTORY: pad(histories, self.entries[name].max_history),
            **{f"allowed_{level}": mask for level, mask in enumerate(masks)},
        }
        return Generated(*self._run(name, Generated._fields, feeds))

    def _run(self, name: str, outputs: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        replay = self._replays.get(name)
        if replay is not None:
            return replay.run(outputs, feeds)
        found: Sequence[NDArray[Any]] = self.opened[name].session.run(outputs, {**feeds, **self.tables(name)})
        return found

    def _allowed(self, batch: int, allowed: Allowed | None) -> Allowed:
        return np.ones((batch, self.bundle.catalogue.size + 1), dtype=np.bool_) if allowed is None else allowed
