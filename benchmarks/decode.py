"""Beam decoding against Hugging Face, same weights and same items, in one run.

    python -m benchmarks.decode --json benchmarks/results/decode.json
    python -m benchmarks.decode --real bundles/shop --data data/shop --json real.json

The paper's TIGER (4.59 M parameters), SID-MLP, a SID-MLP++ of 2 layers x 512 and SASRec, untrained, over 12,101 items
with real fan-out and histories of 20 items; with `--real`, the networks of a bundle and test users of its data, with
histories of their own lengths.
Each graph in float32 and with int8 weights. On one thread and on all cores, unless `--threads` says otherwise.

The contestants take turns over the same batches, so that a busy machine hurts them alike; a time is the median of the
rounds, each with another batch, and ratios are to Hugging Face. In every round the decoders of TIGER in float32 must
find Hugging Face's items; of int8, the share of the best ten that it has in common with float32 is told. GFLOP/s are
those of the products and attentions (`benchmarks.flops`) over the whole time, beside the fastest product of 512 x 512
matrices in ONNX Runtime on as many threads. Prints tables and, as the last line, one JSON document.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
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

from benchmarks.agreement import overlap
from benchmarks.decoders import PEER, TIGER, TORCH, Decoder, Decoders, Subject, int8
from benchmarks.flops import peaks
from benchmarks.machine import machine
from benchmarks.reporting import emit

BATCHES, BEAMS = (1, 8, 32), (10, 50)
CALLS = 5  # a round of a graph; the peers in PyTorch are so slow that one call of theirs takes longer
SAME = 0.99  # least share of equal items: near ties, the last bits of a score decide


def compare(decoders: Decoders, batch: int, beams: int, rounds: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Median milliseconds of each contestant, and all that follows from them and the answers."""
    seconds: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    shared: dict[str, list[float]] = defaultdict(list)
    graphs = decoders.subject.graphs
    for number in range(rounds):
        histories = decoders.subject.draw(batch, number)
        answers = {}
        for name, decode in decoders.contestants(histories, beams).items():
            answers[name], took = _timed(decode, 1 if name in (PEER, TORCH) else CALLS)
            seconds[name].append(took)
        for name in graphs:
            operations = decoders.flops(name, histories, beams)
            for form in (name, int8(name)):
                rates[form].append(operations / seconds[form][-1] / 1e9)
            shared[int8(name)].append(overlap(answers[int8(name)], answers[name], 10))
        for name in (TORCH, TIGER):
            shared[name].append(float(np.mean(answers[name] == answers[PEER])))
        tick()
    equal = {name: statistics.mean(shared[name]) for name in (TORCH, TIGER)}
    assert min(equal.values()) > SAME, f"the items must be those of Hugging Face, equal are {equal}"
    medians = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
    return {
        "batch": batch,
        "beams": beams,
        "equal_items": equal[TIGER],
        "median_ms": {name: round(value, 3) for name, value in medians.items()},
        "times_faster": {name: round(medians[PEER] / value, 1) for name, value in medians.items()},
        "gflops": {name: round(statistics.median(values), 1) for name, values in rates.items()},
        "overlap_at_10": {int8(name): round(statistics.mean(shared[int8(name)]), 4) for name in graphs},
    }


def _timed(decode: Decoder, calls: int) -> tuple[NDArray[np.int64], float]:
    """The answer, and the median seconds of the calls."""
    seconds = []
    for _ in range(calls):
        started = time.perf_counter()
        answer = decode()
        seconds.append(time.perf_counter() - started)
    return answer, statistics.median(seconds)


def overview(results: dict[str, Any], threads: int = 1) -> str:
    """The ratios on so many threads as a Markdown table."""
    cases = [case for case in results["cases"] if case["threads"] == threads]
    names = [name for name in cases[0]["times_faster"] if name != PEER]
    lines = [f"| Batch x beams | {PEER}, ms | {' | '.join(names)} |", "| --- |" + " ---: |" * (1 + len(names))]
    for case in cases:
        cells = [f"{case['times_faster'][name]:.1f}x" for name in names]
        lines.append(f"| {case['batch']} x {case['beams']} | {case['median_ms'][PEER]:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """Milliseconds, ratios, speed of computing and what int8 changes: one table a number of threads and beams."""
    for threads, peak in results["peak_gflops"].items():
        for beams in dict.fromkeys(case["beams"] for case in results["cases"]):
            cases = [c for c in results["cases"] if (c["threads"], c["beams"]) == (int(threads), beams)]
            title = f"{threads} threads, {beams} beams; at best {peak['fp32']:.0f} GFLOP/s, int8 {peak['int8']:.0f}"
            table = Table("", *(f"batch {case['batch']}" for case in cases), title=title)
            for name in cases[0]["median_ms"]:
                table.add_row(name, *(_cell(case, name) for case in cases))
            yield table


def _cell(case: dict[str, Any], name: str) -> str:
    parts = [f"{case['median_ms'][name]:.2f} ms", f"{case['times_faster'][name]:.1f}x"]
    if name in case["gflops"]:
        parts.append(f"{case['gflops'][name]:.0f} GFLOP/s")
    if name in case["overlap_at_10"]:
        parts.append(f"overlap {case['overlap_at_10'][name]:.3f}")
    return ", ".join(parts)


def run(subject: Subject, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All cases."""
    cases, best = [], {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), Progress(console=console) as progress:
        decoders = Decoders(subject, arguments.beams, Path(folder), console)
        count = len(arguments.threads) * len(arguments.batch) * len(arguments.beams)
        task = progress.add_task("rounds", total=count * arguments.rounds)
        for threads in arguments.threads:
            decoders.open(threads)
            best[str(threads)] = {name: round(value, 1) for name, value in peaks(threads).items()}
            for batch in arguments.batch:
                for beams in arguments.beams:
                    found = compare(decoders, batch, beams, arguments.rounds, lambda: progress.advance(task))
                    cases.append({"threads": threads, **found})
    lengths = [len(history) for history in subject.histories]
    return {
        "machine": machine(),
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, onnxruntime)},
        "networks": subject.name,
        "items": decoders.trie.items,
        "history": {"mean": round(statistics.mean(lengths), 1), "longest": max(lengths)},
        "rounds": arguments.rounds,
        "peak_gflops": best,
        "cases": cases,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(description="Time beam decoding against Hugging Face.")
    everything = sorted({1, os.cpu_count() or 1})
    parser.add_argument("--threads", type=int, nargs="+", default=everything, help="default: one, and all cores")
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--beams", type=int, nargs="+", default=list(BEAMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--real", type=Path, help="a bundle, whose networks decode the histories of --data")
    parser.add_argument("--data", type=Path, help="the data set that the bundle of --real was trained on")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args(argv)
    if (arguments.real is None) != (arguments.data is None):
        parser.error("--real and --data go together")
    console = Console(stderr=True)
    subject = Subject.trained(arguments.real, arguments.data) if arguments.real else Subject.untrained()
    results = run(subject, arguments, console)
    for table in tables(results):
        console.print(table)
    for threads in arguments.threads:
        console.print(overview(results, threads), soft_wrap=True)
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
