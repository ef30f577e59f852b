"""Beam decoding on a GPU: Hugging Face, PyTorch, and one graph in float32 and float16, with and without CUDA graphs.

    benchmarks/gpu.sh                        installs what is missing and runs this
    python -m benchmarks.gpu --device cpu --quick

The networks and the catalogue are those of `benchmarks.decode`: the paper's TIGER and SID-MLP, untrained, over 12,101
items, histories of 20 items. A call takes histories from the host and gives items back to it. The contestants take
turns; times are medians. In float32 all decoders of TIGER must agree on the items. What float16 changes is measured on
the trained networks of a bundle. Where no GPU works, everything runs on the CPU with small networks and batches, and
the result says so: that checks the program, not a GPU. Prints tables and, as the last line, one JSON document.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.agreement import Trained, agreement
from benchmarks.catalogues import beauty_like
from benchmarks.hugging_face import ConstrainedGenerate
from benchmarks.machine import machine
from benchmarks.reporting import emit
from models.networks.beam import Level, TigerBeam
from models.networks.fused import FusedEncoder, FusedTigerBeam
from models.networks.sid_mlp import SidMlp, SidMlpBeam, SidMlpConfig
from models.networks.tiger import Tiger, TigerConfig
from models.replay import Buckets, Replay
from models.sessions import Execution, Opened, nodes_on_cpu, obstacle_to_gpu, open_graph
from models.trie import Trie
from training.export import Search, export_generative, in_half, level_tensors

HISTORY = 20
BATCHES, BEAMS = (1, 8, 32, 128, 256), (10, 50)
PEER, TORCH = "Hugging Face + trie", "TIGER, PyTorch"
FIXED = {"cuda": "CUDA graphs", "cpu": "fixed shapes"}  # what a GPU records; on a CPU, the padding and copying alone
CALLS = 5  # of a graph in a round
Decode = Callable[[], NDArray[np.int64]]


class Stand:
    """The networks, the catalogue and the graphs, on one device."""

    def __init__(
        self, device: str, config: TigerConfig, batches: Sequence[int], folder: Path, console: Console
    ) -> None:
        torch.manual_seed(0)
        codes = beauty_like()
        self.device, self.folder, self.console, self.batches = device, folder, console, batches
        self.trie, self.item_codes = Trie.build(codes), torch.from_numpy(codes)
        self.tiger = Tiger(config).eval()
        self.student = SidMlp(config, SidMlpConfig()).eval()
        self.tables = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(table, device)
            for name, table in {"item_codes": codes, **self.trie.tables()}.items()
        }
        self.peer = ConstrainedGenerate(self.tiger, self.item_codes)
        self.peer.to(device)
        self.sessions: dict[str, Opened] = {}
        self.replays: dict[str, Replay] = {}

    def open(self, beams: int) -> None:
        """Export the graphs of a beam width, and open each as it comes and for fixed shapes."""
        networks: dict[str, Search] = {
            "TIGER": FusedTigerBeam(self.tiger, beams).eval(),
            "SID-MLP": SidMlpBeam(FusedEncoder(self.tiger.encoder), self.student, beams).eval(),
        }
        execution = Execution(device="cuda" if self.device == "cuda" else "cpu", gpu_memory_mb=16384)
        for network, search in networks.items():
            for precision, module in (("fp32", search), ("fp16", in_half(search))):
                name = f"{network}, {precision}"
                self.console.print(f"exporting {name} with {beams} beams")
                path = self.folder / "graph.onnx"
                export_generative(module, self.trie, self.item_codes, path)
                self.sessions[name] = open_graph(path, execution)
                self._fix(f"{name}, {FIXED[self.device]}", open_graph(path, execution, record=True))
        self.module = copy.deepcopy(TigerBeam(self.tiger, beams).eval()).to(self.device)

    def _fix(self, name: str, opened: Opened) -> None:
        """Take a graph in fixed shapes if it can be recorded, else the reason why it cannot."""
        self.replays.pop(name, None)
        self.sessions[name] = opened
        if opened.records or self.device == "cpu":
            replay = Replay(opened.session, self.device, self.tables, Buckets(tuple(sorted(self.batches)), (HISTORY,)))
            try:
                for batch in self.batches:
                    replay.run(["items"], self.feeds(batch))
            except Exception as error:  # ONNX Runtime raises many types that share no base but Exception
                self.sessions[name] = opened._replace(reason=f"{opened.reason}, but recording failed: {error}")
            else:
                self.replays[name] = replay

    def feeds(self, batch: int) -> dict[str, NDArray[Any]]:
        """So many histories, and everything allowed."""
        history = np.random.default_rng(batch).integers(1, self.trie.items + 1, (batch, HISTORY))
        allowed = np.ones((batch, self.trie.items + 1), dtype=np.bool_)
        masks = self.trie.node_masks(allowed)
        return {"history": history, **{f"allowed_{level}": mask for level, mask in enumerate(masks)}}

    def contestants(self, batch: int, beams: int) -> dict[str, Decode]:
        """What is timed: each call decodes `batch` histories and returns items [batch, beams]."""
        feeds = self.feeds(batch)
        everything = np.ones((batch, self.trie.items + 1), dtype=np.bool_)
        fixed = [self.item_codes.to(self.device), torch.from_numpy(self.trie.leaf_item).to(self.device)]
        levels = [
            Level(*(tensor.to(self.device) for tensor in level)) for level in level_tensors(self.trie, everything)
        ]

        def on_device() -> torch.Tensor:
            return torch.from_numpy(feeds["history"]).to(self.device)

        def plain(name: str) -> Decode:
            return lambda: self.sessions[name].session.run(["items"], {**feeds, **self.tables})[0]

        def replayed(name: str) -> Decode:
            return lambda: self.replays[name].run(["items"], feeds)[0]

        return {
            PEER: lambda: self.peer(on_device(), beams)[0].numpy(),
            TORCH: lambda: self.module(on_device(), *fixed, levels)[0].cpu().numpy(),
            **{name: plain(name) for name in self.sessions if not name.endswith(FIXED[self.device])},
            **{name: replayed(name) for name in self.replays},
        }


def compare(contestants: dict[str, Decode], rounds: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Median milliseconds of each contestant, and how far its items are those of Hugging Face."""
    answers = {name: decode() for name, decode in contestants.items()}
    equal = {
        name: float(np.mean(items == answers[PEER])) for name, items in answers.items() if name.startswith("TIGER")
    }
    wrong = {name: share for name, share in equal.items() if "fp16" not in name and share < 0.99}
    assert not wrong, f"in float32 the items must be those of Hugging Face, equal are {wrong}"
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, decode in contestants.items():
            for _ in range(1 if name in (PEER, TORCH) else CALLS):
                started = time.perf_counter()
                decode()
                seconds[name].append(time.perf_counter() - started)
        tick()
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    return {
        "median_ms": {name: round(value, 3) for name, value in medians.items()},
        "times_faster": {name: round(medians[PEER] / value, 1) for name, value in medians.items()},
        "equal_items": {name: round(share, 4) for name, share in equal.items()},
    }


def report(results: dict[str, Any], console: Console) -> None:
    """The cases as a table a beam width, and what float16 changes."""
    for beams in dict.fromkeys(case["beams"] for case in results["cases"]):
        cases = [case for case in results["cases"] if case["beams"] == beams]
        table = Table("", *(f"batch {case['batch']}" for case in cases), title=f"{beams} beams, {results['device']}")
        for name in cases[0]["median_ms"]:
            table.add_row(name, *(f"{c['median_ms'][name]:.2f} ms, {c['times_faster'][name]:.1f}x" for c in cases))
        console.print(table)
    for name, found in results["fp16"].items():
        console.print(f"fp16 against fp32, {name}, trained: {found}")
    for name, reason in results["sessions"].items():
        console.print(f"{name}: {reason}")


def measure(arguments: argparse.Namespace, device: str, console: Console) -> dict[str, Any]:
    """All cases on `cpu` or `cuda`."""
    config = TigerConfig(encoder_layers=1, decoder_layers=1, d_ff=128) if arguments.quick else TigerConfig()
    cases = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), Progress(console=console) as progress:
        stand = Stand(device, config, arguments.batch, Path(folder), console)
        task = progress.add_task("rounds", total=len(arguments.batch) * len(arguments.beams) * arguments.rounds)
        for beams in arguments.beams:
            stand.open(beams)
            for batch in arguments.batch:
                found = compare(stand.contestants(batch, beams), arguments.rounds, lambda: progress.advance(task))
                cases.append({"batch": batch, "beams": beams, **found})
        sessions = {
            name: f"{opened.provider}, {opened.reason}; nodes on the CPU: {nodes_on_cpu(opened.session)}"
            for name, opened in stand.sessions.items()
        }
        trained = Trained(arguments.bundle, 32 if arguments.quick else 1000, Path(folder))
        fp16 = {
            name: agreement(*(trained.answers(trained.open(form, device), 32) for form in (in_half(search), search)))
            for name, search in trained.searches().items()
        }
    return {
        "machine": machine(),
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else "CPU: a check of the program, no figure of a GPU",
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, onnxruntime)},
        "items": stand.trie.items,
        "history": HISTORY,
        "rounds": arguments.rounds,
        "sessions": sessions,
        "fp16": fp16,
        "cases": cases,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Time beam decoding on a GPU.")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--quick", action="store_true", help="small networks, small batches, one round")
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--beams", type=int, nargs="+")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/demo"), help="trained networks to try fp16 on")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/gpu.json for a GPU, else nowhere")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True)
    obstacle = obstacle_to_gpu(arguments.device)
    if not obstacle and not torch.cuda.is_available():
        obstacle = f"PyTorch {torch.__version__} finds none"
    if obstacle and arguments.device == "cuda":
        parser.error(f"--device cuda needs a GPU, but {obstacle}")
    if obstacle:
        arguments.quick = True
        console.print(f"[bold]No GPU: {obstacle}. This run on the CPU checks the program and measures no GPU.[/bold]")
    arguments.batch = arguments.batch or ([1, 3] if arguments.quick else list(BATCHES))
    arguments.beams = arguments.beams or ([10] if arguments.quick else list(BEAMS))
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 20)
    results = measure(arguments, "cpu" if obstacle else "cuda", console)
    report(results, console)
    emit(results, arguments.json or (None if obstacle else Path("benchmarks/results/gpu.json")))


if __name__ == "__main__":
    main()
