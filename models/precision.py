"""Which file of a graph runs: the exact one in float32, or the faster one with weights of 8 bits."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from models.bundle import GraphEntry
from models.errors import BundleError

Precision = Literal["auto", "fp32", "int8"]
"""`fp32` is exact, `int8` takes every int8 graph there is, and `auto` those that lose no more than `LARGEST_LOSS`."""
LARGEST_LOSS = 0.005
"""The share of validation NDCG@10 that speed may cost."""
CPU = "CPUExecutionProvider"  # of ONNX Runtime


class Choice(NamedTuple):
    """The file of a graph that runs, and why."""

    file: str
    precision: Literal["fp32", "int8"]
    reason: str


def choose(graphs: Mapping[str, GraphEntry], wanted: Precision, provider: str) -> dict[str, Choice]:
    """The choice for each graph of a bundle on an execution provider.

    Raises:
        BundleError: int8 is wanted, and the bundle has no such graph or the provider is not the CPU.
    """
    if wanted == "int8":
        if provider != CPU:
            raise BundleError(f"int8 graphs run on {CPU}, got {provider}. Set the precision to auto or fp32.")
        if all(entry.int8 is None for entry in graphs.values()):
            raise BundleError(
                f"precision int8 needs a bundle with int8 graphs, got one with {sorted(graphs)} in fp32 only. "
                "Make them: tandem quantise BUNDLE --data DATA. Or set the precision to auto or fp32."
            )
    return {name: _choose(entry, wanted, provider) for name, entry in graphs.items()}


def _choose(entry: GraphEntry, wanted: Precision, provider: str) -> Choice:
    int8 = entry.int8
    exact = Choice(entry.on_cpu if provider == CPU else entry.file, "fp32", "precision fp32 is set")
    if wanted == "fp32":
        return exact
    if provider != CPU:
        return exact._replace(reason=f"int8 graphs run on the CPU only, not on {provider}")
    if int8 is None:
        return exact._replace(reason="the bundle has no int8 file of this graph")
    measured = f"int8 loses {int8.loss:.2%} of NDCG@10 on {int8.users} validation users"
    if wanted == "int8":
        return Choice(int8.file, "int8", f"precision int8 is set; {measured}")
    if int8.loss <= LARGEST_LOSS:
        return Choice(int8.file, "int8", f"{measured}, and {LARGEST_LOSS:.2%} is allowed")
    return exact._replace(reason=f"{measured}, and only {LARGEST_LOSS:.2%} is allowed")
