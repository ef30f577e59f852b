"""Compares a running service with the offline fusion: the same items in the same order, for test users of a data set.

    python -m loadtest.agree bundles/shop --data data/shop --url http://127.0.0.1:8000 --json agree.json

Both sides decode one history at a time: in batches, the last bits of a score depend on the batch, and so which of two
nearly level prefixes a beam keeps. The service must serve the very bundle that is named. Exits 1 when an answer
differs. Prints the answers that do, and as the last line one JSON document.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.reporting import emit
from models.bundle import GENERATIVE, Bundle, newest_version
from models.graphs import Graphs
from training.data.dataset import Dataset, Instances, load_dataset
from training.fusion import contexts
from training.lists import collect

PATIENT = {"deadline_ms": 10_000}  # what is compared is the answers, however busy the machine


def offline(bundle: Bundle, generative: str, instances: Instances, k: int, console: Console) -> list[list[str]]:
    """The best `k` item ids of each instance, history masked, as `tandem evaluate` ranks them."""
    lists = collect(Graphs(bundle), instances, "B", console, batch=1)
    verdict = bundle.fusions[generative](lists.ranked, lists.generated[generative], contexts(bundle, instances))
    return [[bundle.catalogue.item_id(item) for item in row] for row in verdict.fused.items[:, :k].tolist()]


def online(client: httpx2.Client, variant: str, histories: Sequence[Sequence[str]], k: int) -> Iterator[dict[str, Any]]:
    """The answers of the service, one after the other."""
    for history in histories:
        response = client.post("/v1/recommend", json={"history": history, "k": k, "variant": variant, **PATIENT})
        yield response.json()


def compare(
    client: httpx2.Client, bundle: Bundle, dataset: Dataset, generative: str, users: int, k: int, console: Console
) -> dict[str, Any]:
    """Ask for `users` test users, drawn with a fixed seed; how many answers agree, and those that do not."""
    instances = _sample(dataset.instances("test"), users)
    expected = offline(bundle, generative, instances, k, console)
    histories = [[bundle.catalogue.item_id(item) for item in history] for history in instances.histories]
    answers = track(
        online(client, f"ensemble_{generative}", histories, k), "asking", total=len(histories), console=console
    )
    differing, degraded = [], 0
    for history, ours, answer in zip(histories, expected, answers, strict=True):
        theirs = [item["item_id"] for item in answer.get("items", [])]
        degraded += bool(answer.get("degraded"))
        if theirs != ours:
            differing.append({"history": history, "offline": ours, "service": theirs or answer})
    return {
        "bundle": bundle.identity,
        "data": dataset.name,
        "variant": f"ensemble_{generative}",
        "method": bundle.manifest.ensembles[generative].method,
        "users": len(histories),
        "k": k,
        "identical": len(histories) - len(differing),
        "degraded": degraded,
        "differing": differing,
    }


def _sample(instances: Instances, users: int) -> Instances:
    chosen = np.sort(np.random.default_rng(0).permutation(len(instances.targets))[:users])
    histories = [instances.histories[i] for i in chosen.tolist()]
    return Instances(instances.users[chosen], histories, instances.targets[chosen])


def main() -> None:
    """Parse the command line, compare, print."""
    parser = argparse.ArgumentParser(description="Compare a running service with the offline fusion.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the data set that the bundle was trained on")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--generative", default="tiger", choices=GENERATIVE)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    bundle, dataset = Bundle.open(newest_version(arguments.bundle)), load_dataset(arguments.data)
    with httpx2.Client(base_url=arguments.url, timeout=60) as client:
        result = compare(client, bundle, dataset, arguments.generative, arguments.users, arguments.k, console)
    for answer in result["differing"][:5]:
        console.print(answer)
    # The histories are rows of the data set, which a report must not carry.
    summary = {**result, "differing": len(result["differing"])}
    emit(summary, arguments.json)
    sys.exit(bool(result["differing"]))


if __name__ == "__main__":
    main()
