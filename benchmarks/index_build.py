"""Building the transition index from synthetic events: seconds and peak memory by size.

    python -m benchmarks.index_build --json benchmarks/results/index_build.json

Each build runs in a process of its own, from a Parquet file to the written index, so it includes the reading of ids and
the compression. Peak memory is what the kernel counts of that process, with Spark of the Java process too. `--spark`
times the same builds on Spark. Prints a table and, as the last line, one JSON document.
"""

import argparse
import math
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine
from benchmarks.reporting import emit
from training.data.options import ReadOptions
from training.index_jobs import Resources, build

SIZES = (200_000, 2_000_000, 20_000_000)
MEAN_LENGTH = 9
SUCCESSORS = 20
USERS_A_PART = 100_000
Engine = Literal["duckdb", "spark"]


def catalogue_size(events: int) -> int:
    """Catalogues grow slower than logs: 10,000 items for 0.2 M events, 100,000 for 20 M."""
    return round(10_000 * math.sqrt(events / 200_000))


def write_events(path: Path, events: int, console: Console, seed: int = 0) -> None:
    """Write about `events` rows (user_id, item_id, timestamp), each part of the users sorted by time like a log.

    A user has 2 events or more, 9 on average. Every other event takes one of 20 fixed successors of the item before,
    the rest follow Zipf's law.
    """
    random = np.random.default_rng(seed)
    users, items = events // MEAN_LENGTH, catalogue_size(events)
    popularity = np.cumsum(1 / np.arange(1, items + 1))
    schema = pa.schema([("user_id", pa.int64()), ("item_id", pa.int64()), ("timestamp", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in track(range(0, users, USERS_A_PART), f"writing {events:,} events", console=console):
            part = np.arange(first, min(first + USERS_A_PART, users))
            writer.write_table(user_events(part, popularity / popularity[-1], random).cast(schema))


def user_events(users: np.ndarray[Any, Any], popularity: np.ndarray[Any, Any], random: np.random.Generator) -> pa.Table:
    """Events of some users, sorted by time, over the items 0, 1, ... of which `popularity` are the cumulated shares."""
    left = random.geometric(1 / (MEAN_LENGTH - 1), len(users)) + 1
    now = random.integers(0, 10**9, len(users))
    item = np.searchsorted(popularity, random.random(len(users)))
    columns = []
    while len(users):
        columns.append((users, item, now))
        going = left > 1
        users, item, now, left = users[going], item[going], now[going], left[going] - 1
        now = now + random.integers(1, 10**5, len(users))
        successor = (item * 31 + random.integers(0, SUCCESSORS, len(users))) % len(popularity)
        popular = np.searchsorted(popularity, random.random(len(users)))
        item = np.where(random.random(len(users)) < 0.5, successor, popular)
    user_id, item_id, timestamp = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(timestamp, kind="stable")
    return pa.table({"user_id": user_id[order], "item_id": item_id[order], "timestamp": timestamp[order]})


def measure(events: Path, out: Path, engine: Engine, memory_mib: int) -> dict[str, Any]:
    """Build the index in this process; seconds, peak MiB, and what came out."""
    started = time.perf_counter()
    index = build(events, ReadOptions(), out, Resources(engine, memory_mib), Console(quiet=True))
    seconds = time.perf_counter() - started
    peak = peak_mib("self") + (peak_mib(str(_java())) if engine == "spark" else 0)
    return {
        "events": pq.read_metadata(events).num_rows,
        "items": index.num_items,
        "transitions": sum(map(len, index.forward.neighbours)),
        "index_mib": round(out.stat().st_size / 2**20, 1),
        "engine": engine,
        "seconds": round(seconds, 1),
        "peak_mib": peak,
    }


def peak_mib(process: str) -> int:
    """The most memory that a process ever had resident (unlike `ru_maxrss`, without that of who started it)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def _java() -> int:
    from pyspark.sql import SparkSession

    context: Any = SparkSession.getActiveSession()
    return int(context.sparkContext._jvm.java.lang.ProcessHandle.current().pid())


def main() -> None:
    """Parse the command line, build, print."""
    parser = argparse.ArgumentParser(description="Time index builds.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--memory-mib", type=int, default=2048, help="memory of the engine")
    parser.add_argument("--spark", action="store_true", help="time Spark too")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(stderr=True)
    engines: tuple[Engine, ...] = ("duckdb", "spark") if arguments.spark else ("duckdb",)
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            events, out = Path(folder) / "events.parquet", Path(folder) / "index.npz"
            write_events(events, size, console)
            for engine in engines:
                with (
                    ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
                    console.status(f"{engine}, {size:,}"),
                ):
                    cases.append(pool.submit(measure, events, out, engine, arguments.memory_mib).result())
    table = Table("engine", "events", "items", "transitions", "seconds", "peak MiB")
    for case in cases:
        table.add_row(
            *(
                f"{case[name]}" if name == "engine" else f"{case[name]:,}"
                for name in ("engine", "events", "items", "transitions", "seconds", "peak_mib")
            )
        )
    console.print(table)
    packages = ("duckdb", "pyspark") if arguments.spark else ("duckdb",)
    results = {
        "machine": machine(),
        "memory_limit_mib": arguments.memory_mib,
        "versions": {name: version(name) for name in packages},
        "cases": cases,
    }
    emit(results, arguments.json)


if __name__ == "__main__":
    main()
