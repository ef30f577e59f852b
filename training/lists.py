"""The ranked lists that a bundle's own graphs give to evaluation instances.

What is measured here is what is served: the same ONNX graphs, masks and trie as in the service.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from models.bundle import Bundle
from models.graphs import Generated, Graphs
from models.histories import allow_all_but
from models.indicators import Ranked
from training.batches import history_batches
from training.data.dataset import Instances

Protocol = Literal["A", "B"]
PROTOCOLS: Mapping[Protocol, str] = {"A": "history not masked", "B": "history masked"}
BATCH = 8  # beyond this a TIGER batch gains nothing on a CPU


@dataclass(frozen=True)
class Lists:
    """Answers to `n` instances in their order."""

    ranked: Ranked  # SASRec
    generated: Mapping[str, Generated]  # by generative graph


def collect(graphs: Graphs, instances: Instances, protocol: Protocol, console: Console, batch: int = BATCH) -> Lists:
    """Run every graph over all instances, one thread a core.

    Protocol A lets a list repeat the history (the convention of MemGen, TIGER and SID-MLP); B masks it.
    """
    items = graphs.bundle.catalogue.size
    names = [name for name in graphs.entries if name != "sasrec"]
    batches = list(history_batches(instances.histories, batch))

    def run(rows: NDArray[np.int64]) -> tuple[Ranked, list[Generated]]:
        histories = [instances.histories[i] for i in rows]
        allowed = allow_all_but(histories, items) if protocol == "B" else None
        return graphs.rank(histories, allowed), [graphs.generate(name, histories, allowed) for name in names]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        label = f"lists, protocol {protocol}"
        answers = list(track(pool.map(run, batches), label, total=len(batches), console=console))
    restore = np.argsort(np.concatenate(batches))
    ranked = Ranked(*(np.concatenate(column)[restore] for column in zip(*(a[0] for a in answers), strict=True)))
    generated = {
        name: Generated(*(np.concatenate(c)[restore] for c in zip(*(a[1][i] for a in answers), strict=True)))
        for i, name in enumerate(names)
    }
    return Lists(ranked, generated)


def popular(bundle: Bundle, instances: Instances, protocol: Protocol, k: int = 10) -> NDArray[np.int64]:
    """The `k` most popular items [n, k] of every instance; protocol B skips its history (0 where too few are left)."""
    order = np.argsort(-bundle.popularity[1:], kind="stable") + 1
    if protocol == "A":
        return np.tile(order[:k], (len(instances.targets), 1))
    head = order[: k + max(map(len, instances.histories))]
    found = np.zeros((len(instances.histories), k), dtype=np.int64)
    for row, history in zip(found, instances.histories, strict=True):
        left = head[~np.isin(head, history)][:k]
        row[: len(left)] = left
    return found
