"""The service that a load test runs against: one of its own in another process, and requests for it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from loadtest.client import encode
from loadtest.walks import Walker
from models.bundle import ITEMS, TRANSITIONS, newest_version
from models.catalogue import Catalogue
from models.transitions import TransitionIndex

_PATIENT = {"TANDEM_DEFAULT_DEADLINE_MS": "10000"}  # what is late is measured, not cut off


@contextlib.contextmanager
def running(bundle: Path) -> Iterator[str]:
    """Start `tandem serve` on a free port, and yield its URL once it is warm; ended with the block."""
    command = [sys.executable, "-c", "from tandem.cli import main; main()", "serve", "--bundle", str(bundle)]
    with subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env={**os.environ, **_PATIENT}
    ) as service:
        try:
            assert service.stdout is not None
            announcement = service.stdout.readline()
            if not announcement:
                raise RuntimeError(f"a service of {bundle} must start; its log above says why it does not")
            yield announcement.split("curl -s ")[1].split("/v1")[0]
        finally:
            service.terminate()


def walks(bundle: Path, count: int, seed: int = 0) -> list[list[str]]:
    """Histories of item ids."""
    directory = newest_version(bundle)
    catalogue = Catalogue.load(directory / ITEMS)
    walker = Walker(TransitionIndex.load(directory / TRANSITIONS), seed)
    return [[catalogue.item_id(item) for item in walker.history()] for _ in range(count)]


def messages(histories: list[list[str]], variant: str) -> list[bytes]:
    """A request to recommend for each history, as `Pool` sends it."""
    return [
        encode("/v1/recommend", json.dumps({"history": history, "variant": variant}).encode()) for history in histories
    ]
