"""What grows with the catalogue, and what does not: 12 thousand to 10 million items.

    python -m benchmarks.catalogue --json benchmarks/results/catalogue.json

Synthetic catalogues with the fan-out of a real one (`benchmarks.catalogues`); the paper's TIGER and SID-MLP, untrained,
50 beams, one history of 20 items, one thread. One graph of each decodes all catalogues, taking turns, so that a busy
machine hurts them alike. SASRec has a graph for each size, up to a million items: exact scores and the scan take turns.
A swap goes from the items' file to the first answer over them, on a session that is already there; what depends on
events, such as the transition index, is not in it. Prints tables and, as the last line, one JSON document.
"""

import argparse
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.catalogues import NODES, beauty_like
from benchmarks.index_build import peak_mib
from benchmarks.machine import machine
from benchmarks.reporting import emit
from models.catalogue import Catalogue
from models.indicators import Ranked
from models.masks import Filters
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.sasrec import SASRec, SASRecConfig
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig
from models.networks.topk import SCAN_FROM, SASRecScan, SASRecTopK
from models.sessions import open_session
from models.trie import Trie
from training.export import export_generative, export_sasrec

SIZES = (NODES[-1], 100_000, 1_000_000, 10_000_000)
LARGEST_SASREC = 1_000_000  # an ONNX file holds 2 GB: 8 million items of 64 floats
BEAMS, HISTORY, SEEN, LISTED = 50, 20, 20, 4_000
EXACT, SCAN = "exact.onnx", "scan.onnx"
SASREC_BATCHES, RECALL_BATCH = (1, 8), 32
Sessions = Mapping[str, Any]


@dataclass(frozen=True)
class Decoded:
    """A catalogue, ready to be decoded."""

    trie: Trie
    filters: Filters
    tables: Mapping[str, NDArray[np.generic]]

    @classmethod
    def of(cls, codes: NDArray[np.int64]) -> "Decoded":
        """Build everything that a service keeps of semantic ids [N + 1, D]."""
        trie = Trie.build(codes)
        trie.leaf_of  # noqa: B018 - the first request would compute it
        return cls(trie, Filters(trie, 1 << 30), {"item_codes": codes, **trie.tables()})

    def decode(self, session: Any, history: NDArray[np.int64], hidden: NDArray[np.int64]) -> NDArray[np.int64]:
        """Items [1, K] for a history [1, L], without some."""
        masks = self.filters.get(None).without(hidden.tolist()).nodes
        allowed = {f"allowed_{level}": mask[np.newaxis] for level, mask in enumerate(masks)}
        items: NDArray[np.int64] = session.run(["items"], {"history": history, **self.tables, **allowed})[0]
        return items


def decoders(folder: Path, tiger: Tiger, student: SidMlp) -> Sessions:
    """One graph of each generative network, for every catalogue."""
    searches: dict[str, FusedTigerBeam | SidMlpBeam] = {
        "tiger": FusedTigerBeam(tiger, BEAMS),
        "sid_mlp": SidMlpBeam(FusedEncoder(tiger.encoder), student, BEAMS, skip_forced=True),
    }
    return {name: decoder(search, folder / f"{name}.onnx") for name, search in searches.items()}


def decoder(search: FusedTigerBeam | SidMlpBeam, path: Path) -> Any:
    """A session of a beam search; no catalogue is baked in."""
    codes = beauty_like()
    export_generative(search.eval(), Trie.build(codes), torch.from_numpy(codes), path)
    return open_session(path, 1)


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for counted in (False, *[True] * rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if counted:
                times[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(values) * 1e3, 4) for name, values in times.items()}


def build(codes: NDArray[np.int64]) -> dict[str, float]:
    """Seconds to build a trie, the most memory that it took beyond the semantic ids, and the size of its tables."""
    tracemalloc.start()
    started = time.perf_counter()
    trie = Trie.build(codes)
    seconds = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "build_seconds": round(seconds, 6),
        "build_peak_mb": round(peak / 1e6, 3),
        "tables_mb": round(sum(table.nbytes for table in trie.tables().values()) / 1e6, 3),
        "item_codes_mb": round(codes.nbytes / 1e6, 3),
    }


def swap(codes: NDArray[np.int64], session: Any, folder: Path) -> tuple[Decoded, float]:
    """The catalogue as it was read, and the seconds from its file to the first answer over it."""
    item_ids = [f"item-{index}" for index in range(1, len(codes))]
    Catalogue(item_ids, codes, pa.table({"item_id": item_ids})).save(folder / "items.parquet")
    del item_ids
    started = time.perf_counter()
    decoded = Decoded.of(Catalogue.load(folder / "items.parquet").codes)
    decoded.decode(session, np.ones((1, HISTORY), dtype=np.int64), np.array([1]))
    return decoded, round(time.perf_counter() - started, 3)


def mask_times(decoded: Decoded, rounds: int) -> dict[str, float]:
    """Milliseconds for the masks of a request: under a new filter of up to LISTED items, and under a known one."""
    random = np.random.default_rng(0)
    items = decoded.trie.items
    only = (random.choice(items, min(LISTED, items // 3), replace=False) + 1).tolist()
    turns = iter(random.choice(only, (rounds + 1, SEEN)).tolist())
    nothing_kept, known = Filters(decoded.trie, 0), decoded.filters.get(only)
    return {
        **medians({"filter_new_ms": lambda: nothing_kept.get(only)}, 3),
        **medians({"filter_known_ms": lambda: decoded.filters.get(only)}, rounds),
        **medians({"masks_ms": lambda: known.without(next(turns)).nodes}, rounds),
    }


def decode_times(catalogues: Mapping[int, Decoded], sessions: Sessions, rounds: int) -> dict[int, dict[str, float]]:
    """Milliseconds a decode, masks included, by size; every size takes its turn in every round."""
    found: dict[int, dict[str, float]] = {size: {} for size in catalogues}
    for name, session in sessions.items():
        calls = {str(size): _decode(decoded, session) for size, decoded in catalogues.items()}
        for size, time_ms in medians(calls, rounds).items():
            found[int(size)][f"{name}_ms"] = time_ms
    smallest = found[min(found)]
    return {
        size: times | {f"{name}_ratio": round(times[f"{name}_ms"] / smallest[f"{name}_ms"], 3) for name in sessions}
        for size, times in found.items()
    }


def _decode(decoded: Decoded, session: Any) -> Callable[[], Any]:
    random = np.random.default_rng(1)

    def call() -> None:
        history = random.integers(1, decoded.trie.items + 1, (1, HISTORY))
        decoded.decode(session, history, history[0])

    return call


def sasrec_times(network: SASRec, folder: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of both of SASRec's graphs, their sizes, and how far the scan's answers are the exact ones."""
    export_sasrec(SASRecTopK(network, BEAMS).eval(), folder / EXACT)
    export_sasrec(SASRecScan(network, BEAMS).eval(), folder / SCAN)
    sessions = {name: open_session(folder / name, 1) for name in (EXACT, SCAN)}
    found: dict[str, Any] = {
        "sasrec_file_mb": {name: round((folder / name).stat().st_size / 1e6, 1) for name in sessions}
    }
    for batch in SASREC_BATCHES:
        feeds = _sasrec_feeds(network.config.items, batch)
        calls = {name: partial(session.run, None, feeds) for name, session in sessions.items()}
        found[f"sasrec_batch_{batch}_ms"] = medians(calls, rounds)
    feeds = _sasrec_feeds(network.config.items, RECALL_BATCH)
    exact, scan = (Ranked(*session.run(Ranked._fields, feeds)) for session in sessions.values())
    shared = sum(np.isin(*rows).sum() for rows in zip(exact.items, scan.items, strict=True))
    return found | {
        "scan_recall_at_50": round(float(shared) / exact.items.size, 5),
        "scan_msp_error": round(float(np.abs(scan.msp / exact.msp - 1).max()), 4),
    }


def _sasrec_feeds(items: int, batch: int) -> dict[str, NDArray[np.generic]]:
    history = np.random.default_rng(batch).integers(1, items + 1, (batch, HISTORY))
    return {"history": history, "allowed": np.ones((batch, items + 1), dtype=np.bool_)}


def untrained_sasrec(items: int) -> SASRec:
    """A network with item vectors of different lengths, as popularity makes them, and logits some way apart."""
    network = SASRec(SASRecConfig(items)).eval()
    with torch.no_grad():
        network.items.weight.normal_(std=0.15).mul_(torch.empty(items + 1, 1).uniform_(0.5, 2.0))
        network.items.weight[0] = 0
    return network


def measure(
    sizes: Sequence[int], sessions: Sessions, rounds: int, folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Everything, by size, with generative graphs by name; the first of them answers after a swap."""
    first = next(iter(sessions.values()))
    cases: dict[int, dict[str, Any]] = {}
    catalogues: dict[int, Decoded] = {}
    for size in track(sorted(sizes), "building", console=console):
        codes = beauty_like(size)
        cases[size] = {"items": size, **build(codes)}
        catalogues[size], cases[size]["swap_seconds"] = swap(codes, first, folder)
        cases[size] |= mask_times(catalogues[size], rounds)
    with console.status("decoding"):
        for size, times in decode_times(catalogues, sessions, rounds).items():
            cases[size] |= times
    catalogues.clear()
    for size in track([size for size in cases if size <= LARGEST_SASREC], "SASRec", console=console):
        cases[size] |= sasrec_times(untrained_sasrec(size), folder, rounds)
    return list(cases.values())


def report(cases: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each figure, a column for each size."""
    table = Table("", *(f"{case['items']:,}" for case in cases))
    names = dict.fromkeys(name for case in cases for name in case if name != "items")
    for name in names:
        table.add_row(name, *(_shown(case.get(name, "")) for case in cases))
    return table


def _shown(value: Any) -> str:
    return " / ".join(f"{part:g}" for part in value.values()) if isinstance(value, Mapping) else f"{value}"


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time what depends on the size of the catalogue.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiger = Tiger(TigerConfig()).eval()
    student = SidMlp(tiger.config, SidMlpConfig()).eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        with console.status("exporting TIGER and SID-MLP"):
            sessions = decoders(Path(folder), tiger, student)
        cases = measure(arguments.sizes, sessions, arguments.rounds, Path(folder), console)
    console.print(report(cases))
    results = {
        "machine": machine(),
        "threads": 1,
        "versions": {module.__name__: module.__version__ for module in (np, onnxruntime)},
        "beams": BEAMS,
        "rounds": arguments.rounds,
        "scan_from": SCAN_FROM,
        "peak_mib": peak_mib("self"),
        "cases": cases,
    }
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
