"""Runs the ONNX graphs of a bundle; evaluation and service call the very same code.

Every graph is one `session.run`: encoder, all decode steps, trie, masks and top-k inside. A session may be shared by
threads; with `threads=1` each call uses one core (see docs/LOG.md for why that is the default).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import BundleError, TandemError
from models.histories import History, pad
from models.indicators import Ranked
from models.precision import Precision, choose

try:
    import onnxruntime as ort
except ImportError as error:  # pragma: no cover - exercised by the installation test
    raise TandemError(
        "ONNX Runtime is missing: pip install 'tandem-recommender[cpu]', or [gpu] on a machine with an NVIDIA driver"
    ) from error

Allowed = NDArray[np.bool_]
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


class Generated(NamedTuple):
    """A generative graph's answer to `B` histories.

    Attributes:
        items: int64 [B, K], best first, distinct, 0 for an empty slot (fewer than K items allowed).
        scores: float32 [B, K], sums of log-probabilities, -inf for an empty slot.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


def providers() -> list[str]:
    """Execution providers to ask for; the wheel's own list names CUDA even where no GPU is."""
    if "CUDAExecutionProvider" in ort.get_available_providers() and NVIDIA_DRIVER.exists():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def open_session(path: Path, threads: int) -> Any:
    """An inference session with `threads` intra-op threads that do not spin while they wait.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Fused, the sum and the norm in the heads of SID-MLP are slower than apart.
        return ort.InferenceSession(path, options, providers=providers(), disabled_optimizers=["SkipLayerNormFusion"])
    except Exception as error:  # ONNX Runtime raises many types that share no base but Exception
        raise BundleError(f"{path} must be a graph that ONNX Runtime {ort.__version__} loads: {error}") from error


class Graphs:
    """All graphs of one bundle, ready to run."""

    def __init__(self, bundle: Bundle, threads: int = 1, precision: Precision = "fp32") -> None:
        self.bundle = bundle
        self.entries = bundle.manifest.graphs
        self.choices = choose(self.entries, precision, providers()[0])
        self._sessions = {name: open_session(bundle.path / c.file, threads) for name, c in self.choices.items()}
        self._tables: Mapping[str, NDArray[np.generic]] = {
            "item_codes": bundle.catalogue.codes,
            **bundle.trie.tables(),
        }

    def provider(self, name: str) -> str:
        """The execution provider that really runs a graph."""
        return str(self._sessions[name].get_providers()[0])

    def rank(self, histories: Sequence[History], allowed: Allowed | None = None) -> Ranked:
        """SASRec's best items for each history, among `allowed` [B, N + 1] (None: all items)."""
        feeds = {
            "history": pad(histories, self.entries["sasrec"].max_history),
            "allowed": self._allowed(len(histories), allowed),
        }
        return Ranked(*self._sessions["sasrec"].run(Ranked._fields, feeds))

    def generate(self, name: str, histories: Sequence[History], allowed: Allowed | None = None) -> Generated:
        """The beam search of graph `name` for each history, among `allowed` [B, N + 1] (None: all items)."""
        return self.search(name, histories, self.bundle.trie.node_masks(self._allowed(len(histories), allowed)))

    def search(self, name: str, histories: Sequence[History], masks: Sequence[Allowed]) -> Generated:
        """As `generate`, for masks [B, nodes] of the nodes of level 1..D (`models.masks`)."""
        feeds = {
            "history": pad(histories, self.entries[name].max_history),
            **self._tables,
            **{f"allowed_{level}": mask for level, mask in enumerate(masks)},
        }
        return Generated(*self._sessions[name].run(Generated._fields, feeds))

    def _allowed(self, batch: int, allowed: Allowed | None) -> Allowed:
        return np.ones((batch, self.bundle.catalogue.size + 1), dtype=np.bool_) if allowed is None else allowed
