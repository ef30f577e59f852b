"""Beam decoding against Hugging Face, same weights and same items, in one run.

    python -m benchmarks.decode --json benchmarks/results/decode.json

The paper's TIGER (4.59 M parameters) and SID-MLP, untrained, over 12,101 items with real fan-out and histories of 20
items; one thread unless `--threads` says otherwise. The contestants take turns, so that a busy machine hurts them
alike, and ratios are of medians. Before anything is timed, the decoders of TIGER must agree on the items. Prints a
table and, as the last line, one JSON document.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.catalogues import beauty_like
from benchmarks.hugging_face import ConstrainedGenerate
from benchmarks.machine import machine
from benchmarks.reporting import emit
from models.graphs import open_session
from models.networks.beam import TigerBeam
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig
from models.trie import Trie
from training.export import export_generative, level_tensors

HISTORY = 20
BATCHES, BEAMS = (1, 8, 32), (10, 50)
PEER, TORCH, TIGER, SID_MLP = "Hugging Face + trie", "TIGER, PyTorch", "TIGER, one graph", "SID-MLP, one graph"
Contestant = Callable[[], Any]


class Stand:
    """The networks, the catalogue and the exported graphs."""

    def __init__(self, threads: int, folder: Path, console: Console) -> None:
        torch.manual_seed(0)
        codes = beauty_like()
        self.trie, self.item_codes = Trie.build(codes), torch.from_numpy(codes)
        self.tiger = Tiger(TigerConfig()).eval()
        student = SidMlp(self.tiger.config, SidMlpConfig()).eval()
        self.peer = ConstrainedGenerate(self.tiger, self.item_codes)
        self.tables = {"item_codes": codes, **self.trie.tables()}
        self.sessions: dict[tuple[str, int], Any] = {}
        for beams in BEAMS:
            for name, search in (
                (TIGER, FusedTigerBeam(self.tiger, beams)),
                (SID_MLP, SidMlpBeam(FusedEncoder(self.tiger.encoder), student, beams)),
            ):
                console.print(f"exporting {name} with {beams} beams")
                path = folder / f"{len(self.sessions)}.onnx"
                export_generative(search.eval(), self.trie, self.item_codes, path)
                self.sessions[name, beams] = open_session(path, threads)

    def contestants(self, batch: int, beams: int) -> dict[str, Contestant]:
        """What is timed: each call decodes `batch` histories and returns items [batch, beams]."""
        random = np.random.default_rng(batch)
        history = random.integers(1, self.trie.items + 1, (batch, HISTORY))
        allowed = np.ones((batch, self.trie.items + 1), dtype=np.bool_)
        masks = {f"allowed_{level}": mask for level, mask in enumerate(self.trie.node_masks(allowed))}
        feeds = {"history": history, **self.tables, **masks}
        tensors = (torch.from_numpy(history), self.item_codes, torch.from_numpy(self.trie.leaf_item))
        levels, module = level_tensors(self.trie, allowed), TigerBeam(self.tiger, beams).eval()
        return {
            PEER: lambda: self.peer(tensors[0], beams)[0].numpy(),
            TORCH: lambda: module(*tensors, levels)[0].numpy(),
            TIGER: lambda: self.sessions[TIGER, beams].run(None, feeds)[0],
            SID_MLP: lambda: self.sessions[SID_MLP, beams].run(None, feeds)[0],
        }


def compare(contestants: dict[str, Contestant], rounds: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Median milliseconds of each contestant and its ratio to the peer, after all decoders of TIGER agreed."""
    answers = {name: run() for name, run in contestants.items()}
    equal = float(np.mean(answers[PEER] == answers[TIGER]))
    assert equal > 0.999, f"only {equal:.4f} of the items are those of Hugging Face"
    assert np.mean(answers[PEER] == answers[TORCH]) > 0.999
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            # The peer is so slow that it would take nearly all of the time: the fast ones get more calls a round.
            for _ in range(1 if name == PEER else 5):
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
        tick()
    medians = {name: statistics.median(values) * 1e3 for name, values in times.items()}
    return {
        "equal_items": equal,
        "median_ms": {name: round(value, 3) for name, value in medians.items()},
        "times_faster": {name: round(medians[PEER] / value, 1) for name, value in medians.items()},
    }


def overview(results: dict[str, Any]) -> str:
    """The ratios as a Markdown table."""
    names = (TORCH, TIGER, SID_MLP)
    lines = [f"| Batch x beams | {PEER}, ms | {' | '.join(f'{name}' for name in names)} |", "| --- |" + " ---: |" * 4]
    for case in results["cases"]:
        cells = [f"{case['times_faster'][name]:.1f}x" for name in names]
        lines.append(f"| {case['batch']} x {case['beams']} | {case['median_ms'][PEER]:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(description="Time beam decoding against Hugging Face.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(arguments.threads)
    cases = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False), torch.no_grad():
        stand = Stand(arguments.threads, Path(folder), console)
        with Progress(console=console) as progress:
            task = progress.add_task("rounds", total=len(BATCHES) * len(BEAMS) * arguments.rounds)
            for batch in BATCHES:
                for beams in BEAMS:
                    found = compare(stand.contestants(batch, beams), arguments.rounds, lambda: progress.advance(task))
                    cases.append({"batch": batch, "beams": beams, **found})
    results = {
        "machine": machine(),
        "threads": arguments.threads,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, onnxruntime)},
        "items": stand.trie.items,
        "history": HISTORY,
        "rounds": arguments.rounds,
        "cases": cases,
    }
    table = Table("batch", "beams", *(f"{name}, ms" for name in (PEER, TORCH, TIGER, SID_MLP)))
    for case in cases:
        table.add_row(str(case["batch"]), str(case["beams"]), *(f"{ms:.2f}" for ms in case["median_ms"].values()))
    console.print(table)
    console.print(overview(results))
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
