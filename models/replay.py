"""Runs a graph on batches of few fixed shapes, in memory that stays in place, as CUDA graphs demand.

A CUDA graph is a recording of the kernels of one run with their addresses; to replay it costs one launch in place of
hundreds. So inputs and outputs of each shape have buffers of their own on the device, a batch is padded to the next
shape, and all runs go through one thread, as ONNX Runtime keeps a recording for the thread that made it.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]
Tables = Mapping[str, ort.OrtValue]
_TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
HISTORY = "history"  # the one input with a second axis that varies


@dataclass(frozen=True)
class Buckets:
    """The batch sizes and history lengths that a graph is run with."""

    batches: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def up_to(cls, batch: int, length: int) -> "Buckets":
        """Powers of two up to a batch size, and that one; a quarter and a half of a length in items, and the whole."""
        powers = {1 << power for power in range(batch.bit_length())}
        return cls(tuple(sorted({*powers, batch})), tuple(sorted({-(-length // 4), -(-length // 2), length})))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every pair of batch size and length."""
        return ((batch, length) for batch in self.batches for length in self.lengths)

    def fit(self, batch: int, length: int) -> tuple[int, int] | None:
        """The smallest batch size and length that hold these; None where there is none."""
        batches = [size for size in self.batches if size >= batch]
        lengths = [size for size in self.lengths if size >= length]
        return (batches[0], lengths[0]) if batches and lengths else None


class _Slot(NamedTuple):
    """One shape."""

    inputs: Mapping[str, ort.OrtValue]
    binding: Any
    options: Any


class Replay:
    """A session over fixed shapes. It may be shared by threads; their runs take turns."""

    def __init__(self, session: Any, device: str, tables: Tables, buckets: Buckets) -> None:
        """Take a session, `cpu` or `cuda`, the inputs that never change (on that device), and the shapes."""
        self._session, self._device, self._tables, self.buckets = session, device, tables, buckets
        self._outputs = {output.name: output for output in session.get_outputs()}
        self._buffers: dict[tuple[str, tuple[int, ...]], ort.OrtValue] = {}
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replay")
        self._unrecorded = _options(-1)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """As `InferenceSession.run`; every feed and every output has the batch as its first axis."""
        return self._thread.submit(self._run, outputs, feeds).result()

    def _run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        batch, length = feeds[HISTORY].shape
        shape = self.buckets.fit(batch, length)
        if shape is None:
            found: list[Array] = self._session.run(outputs, {**feeds, **self._tables}, self._unrecorded)
            return found
        slot = self._slots.get(shape)
        if slot is None:
            slot = self._slots[shape] = self._slot(shape, feeds)
        for name, array in feeds.items():
            slot.inputs[name].update_inplace(_padded(array, slot.inputs[name].shape()))
        self._session.run_with_iobinding(slot.binding, slot.options)
        answers = dict(zip(self._outputs, slot.binding.copy_outputs_to_cpu(), strict=True))
        return [answers[name][:batch] for name in outputs]

    def _slot(self, shape: tuple[int, int], feeds: Mapping[str, Array]) -> _Slot:
        batch = shape[0]
        binding = self._session.io_binding()
        inputs = {
            name: self._buffer(name, shape if name == HISTORY else (batch, *array.shape[1:]), array.dtype.type)
            for name, array in feeds.items()
        }
        for name, value in {**self._tables, **inputs}.items():
            binding.bind_ortvalue_input(name, value)
        for name, output in self._outputs.items():
            binding.bind_ortvalue_output(name, self._buffer(name, (batch, *output.shape[1:]), _TYPES[output.type]))
        return _Slot(inputs, binding, _options(len(self._slots) + 1))

    def _buffer(self, name: str, shape: tuple[int, ...], kind: Any) -> ort.OrtValue:
        """Memory on the device; shapes that share one share it, as runs take turns."""
        if (name, shape) not in self._buffers:
            self._buffers[name, shape] = ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, self._device)
        return self._buffers[name, shape]


def _padded(array: Array, shape: Sequence[int]) -> Array:
    """`array` in the first corner of zeros of `shape`: empty histories, and nothing allowed."""
    if array.shape == tuple(shape):
        return array
    padded = np.zeros(shape, dtype=array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded


def _options(recording: int) -> Any:
    """Run options with the number of the recording; -1 neither makes nor replays one."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(recording))
    return options
