"""Real servers for the tests: the command in a process of its own, or an application in a thread of this one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings

COMMAND = [sys.executable, "-c", "from tandem.cli import main; main()"]
PATIENCE_S = 20.0
ROOT = Path(__file__).parents[2]

# The machine that runs the tests may be busy: what is not about deadlines must not depend on them.
RELAXED = {"redis_deadline_ms": 1000.0, "default_deadline_ms": 10_000}


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {PATIENCE_S} s in vain until {what}")


def altered(bundle: Path, destination: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a bundle with another manifest."""
    shutil.copytree(bundle, destination)
    manifest = destination / "manifest.json"
    content = json.loads(manifest.read_text())
    edit(content)
    manifest.write_text(json.dumps(content))
    return destination


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The environment that gives the command its settings."""
    return {
        **os.environ,
        **{
            f"TANDEM_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in settings.items()
        },
        "OMP_NUM_THREADS": "1",
    }


def serve(bundle: Path, **settings: Any) -> "subprocess.Popen[str]":
    """Start `tandem serve` on a free port."""
    return subprocess.Popen(
        [*COMMAND, "serve", "--bundle", str(bundle), "--port", "0"],
        env=environment(settings),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@dataclass
class Served:
    """A ready `tandem serve`."""

    process: "subprocess.Popen[str]"
    announcement: str
    client: httpx2.Client

    def redis_pid(self) -> int | None:
        """The process id of its embedded Redis, if that runs."""
        return next((pid for pid in children(self.process.pid) if "redis" in name_of(pid)), None)


@contextlib.contextmanager
def served(bundle: Path, **settings: Any) -> Iterator[Served]:
    """A ready `tandem serve` for the block, ended with SIGTERM."""
    process = serve(bundle, **{**RELAXED, **settings})
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    reader = threading.Thread(target=log.extend, args=(process.stderr,))
    reader.start()
    try:
        announcement = process.stdout.readline()
        assert announcement, "".join(log)
        url = announcement.split("curl -s ")[1].split("/v1")[0]
        with httpx2.Client(base_url=url, timeout=PATIENCE_S) as client:
            yield Served(process, announcement, client)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        reader.join(PATIENCE_S)
        process.stdout.close()
        process.stderr.close()


@contextlib.contextmanager
def application(bundle: Path, **settings: Any) -> Iterator[tuple[Runtime, httpx2.Client]]:
    """An application on a free port of this process, so that a test can reach into its runtime."""
    app = create_app(Settings(bundle=bundle, **{**RELAXED, **settings}))
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False)
    socket = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{socket.getsockname()[1]}", timeout=PATIENCE_S) as client:
            until(lambda: server.started, "the server has started")
            yield app.state.runtime, client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        socket.close()


@contextlib.contextmanager
def ready(bundle: Path, **settings: Any) -> Iterator[tuple[Runtime, httpx2.Client]]:
    """Like `application`, once it is ready."""
    with application(bundle, **settings) as (runtime, client):
        until(lambda: client.get("/readyz").status_code == 200, "the service is ready")
        yield runtime, client


@contextlib.contextmanager
def busy(runtime: Runtime) -> Iterator[None]:
    """Occupy every thread that runs graphs for the block."""
    release = threading.Event()
    lanes = runtime._lanes
    assert lanes is not None
    for _ in range(runtime.settings.workers):
        lanes._threads.submit(release.wait, PATIENCE_S)
    try:
        yield
    finally:
        release.set()


def metric(client: httpx2.Client, name: str, **labels: str) -> float:
    """The value of one metric; 0 while it does not exist."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(name) and all(f'{label}="{value}"' in line for label, value in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def name_of(pid: int) -> str:
    """The command name of a process; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
