"""Opens ONNX Runtime sessions on the device that is really there.

ONNX Runtime's own list of providers names CUDA on machines without a GPU, and a session that cannot have the provider
it was asked for runs on the CPU and says nothing. So CUDA is asked for only where the driver offers a GPU, and what
counts is which provider the session names once it is open.
"""

import ctypes
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from models.errors import BundleError, DeviceError, TandemError
from models.precision import CPU, Precision

try:
    import onnxruntime as ort
except ImportError as error:  # pragma: no cover - exercised by the installation test
    raise TandemError(
        "ONNX Runtime is missing: pip install 'tandem-recommender[cpu]', or [gpu] on a machine with an NVIDIA driver"
    ) from error

Device = Literal["auto", "cpu", "cuda"]
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Execution:
    """How graphs are run."""

    device: Device = "auto"
    """`auto` takes a GPU where one works, `cuda` refuses to go on without it."""
    threads: int = 1
    """Intra-op threads of a session on the CPU; a session may be shared by threads, and each call uses so many."""
    precision: Precision = "fp32"
    """Whether int8 graphs are used on the CPU."""
    gpu_memory_mb: int = 4096
    """Bound of the working memory of each graph on a GPU."""
    replay: Mapping[str, int] = field(default_factory=dict)
    """The largest batch of each graph that a GPU runs as recorded CUDA graphs; without effect on a CPU."""


class Opened(NamedTuple):
    """A session and the facts about it that a log should show."""

    session: Any
    provider: str
    """The execution provider that really runs it."""
    reason: str
    """Why it is that one, and whether it records CUDA graphs."""
    records: bool
    """Whether its runs are recorded as CUDA graphs, so that they must go through `models.replay`."""

    @property
    def device(self) -> str:
        """Where ONNX Runtime keeps its inputs: `cuda` or `cpu`."""
        return "cuda" if self.provider == CUDA else "cpu"


def gpus() -> int:
    """How many GPUs the NVIDIA driver offers to this process; 0 where there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def open_session(path: Path, threads: int = 1) -> Any:
    """A session on the CPU with `threads` intra-op threads.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
    """
    return _open(path, threads, [CPU])


def open_graph(path: Path, execution: Execution, *, record: bool = False) -> Opened:
    """A session on the device that `execution` asks for; on a GPU, its runs are recorded if `record`.

    Raises:
        DeviceError: the device is `cuda` and there is none that works.
        BundleError: ONNX Runtime cannot load the graph.
    """
    obstacle = obstacle_to_gpu(execution.device)
    if not obstacle:
        ort.preload_dlls()  # of the nvidia-* packages, where no system library is
        for records in (True, False) if record else (False,):
            try:
                session = _open(path, execution.threads, [(CUDA, _cuda_options(execution, records)), CPU])
            except BundleError as error:  # for instance because a recording may not hold what runs on the CPU
                obstacle = str(error)
                continue
            if session.get_providers()[0] == CUDA:
                return Opened(session, CUDA, _success(records, obstacle), records)
            obstacle = "ONNX Runtime could not start its CUDA provider; are CUDA 13 and cuDNN 9 installed?"
    if execution.device == "cuda":
        raise DeviceError(
            f"device cuda needs a GPU that works, but {obstacle}. Install the extra [gpu] in place of [cpu] on a "
            "machine with an NVIDIA driver, or set TANDEM_DEVICE to auto or cpu."
        )
    return Opened(open_session(path, execution.threads), CPU, obstacle, records=False)


def nodes_on_cpu(session: Any) -> dict[str, int]:
    """How many operators of a session that was asked to run on a GPU stay on the CPU, by kind; shapes should be all."""
    if session.get_providers()[0] != CUDA:
        return {}
    parts = [part for part in session.get_provider_graph_assignment_info() if part.ep_name == CPU]
    return dict(Counter(node.op_type for part in parts for node in part.get_nodes()))


def obstacle_to_gpu(device: Device) -> str:
    """Why graphs cannot be asked to run on a GPU; empty if nothing is known to stand in the way."""
    if device == "cpu":
        return "the CPU was asked for"
    if CUDA not in ort.get_available_providers():
        return "this ONNX Runtime is built for the CPU"
    return "" if gpus() else "the NVIDIA driver offers no GPU"


def _success(records: bool, obstacle: str) -> str:
    if records:
        return "a GPU works and replays CUDA graphs"
    return f"a GPU works, without CUDA graphs: {obstacle}" if obstacle else "a GPU works"


def _cuda_options(execution: Execution, records: bool) -> dict[str, str]:
    return {
        "gpu_mem_limit": str(execution.gpu_memory_mb << 20),
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles, so that half of the memory may lie idle
        "use_tf32": "0",  # 10-bit products: items would differ from those of a CPU
        "enable_cuda_graph": str(int(records)),
    }


def _open(path: Path, threads: int, providers: list[Any]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One plan of memory for each shape ever seen: it grows with the shapes, and saves no time.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", str(int(len(providers) > 1)))
    try:
        # Fused, the sum and the norm in the heads of SID-MLP are slower than apart.
        return ort.InferenceSession(
            path, options, providers=providers, enable_fallback=0, disabled_optimizers=["SkipLayerNormFusion"]
        )
    except Exception as error:  # ONNX Runtime raises many types that share no base but Exception
        raise BundleError(f"{path} must be a graph that ONNX Runtime {ort.__version__} loads: {error}") from error
