"""Locust's traffic against a real service."""

import json
import subprocess
import sys
from pathlib import Path

from tests.service.servers import ROOT, Served, environment


def test_every_kind_of_request_is_answered(server: Served, adaptive_path: Path) -> None:
    # In a process of its own, as Locust patches the standard library.
    command = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--json", "--only-summary"]
    limits = ["--users", "10", "--spawn-rate", "10", "--run-time", "8s", "--host", str(server.client.base_url)]
    found = subprocess.run(
        [*command, *limits], cwd=ROOT, env=environment({"bundle": str(adaptive_path)}), capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    kinds = {entry["name"]: entry["num_failures"] for entry in json.loads(found.stdout)}
    assert "recommend, history" in kinds
    assert not any(kinds.values())
