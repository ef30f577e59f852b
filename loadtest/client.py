"""A keep-alive HTTP client that costs next to nothing, and the closed loop that drives it.

A general client takes more time for a request than the service itself; this one knows but one kind: POST of a JSON body
whose answer names its length.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

Ask = Callable[[int], Awaitable[bool]]
"""Sends request number i; whether it was answered with 200."""


class Connection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits."""
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the service closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Complete the answer once its whole body is there."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answer is not None and not self._answer.done():
            self._received = b""
            self._answer.set_result((int(head[9:12]), body))

    @property
    def alive(self) -> bool:
        """Whether the service still listens."""
        return self._transport is not None

    async def post(self, message: bytes) -> tuple[int, bytes]:
        """Send what `encode` made; status and body of the answer."""
        if self._transport is None:
            raise ConnectionError("the service closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class Pool:
    """As many connections to one service as there are requests in flight."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[Connection] = []

    async def post(self, message: bytes) -> tuple[int, bytes]:
        """Send what `encode` made over a free connection; status and body of the answer.

        Raises:
            ConnectionError: the service closed the connection, or refused it.
        """
        # The service closes what was idle for long.
        self._free = [connection for connection in self._free if connection.alive]
        if self._free:
            connection = self._free.pop()
        else:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, *self._address)
        answer = await connection.post(message)  # one that failed is not used again
        self._free.append(connection)
        return answer

    async def succeeds(self, message: bytes) -> bool:
        """Whether a request is answered with 200."""
        with suppress(ConnectionError):
            return (await self.post(message))[0] == 200
        return False

    def close(self) -> None:
        """Close the connections that are free."""
        for connection in self._free:
            connection.close()


def encode(path: str, body: bytes) -> bytes:
    """A whole request."""
    head = f"POST {path} HTTP/1.1\r\nhost: tandem\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def closed_loop(ask: Ask, concurrency: int, seconds: float) -> tuple[list[float], float]:
    """Keep `concurrency` requests in flight: latencies in seconds of those that succeed, and how many do a second."""
    latencies: list[float] = []
    begin = time.perf_counter()
    numbers = iter(range(10**9))

    async def user() -> None:
        while (started := time.perf_counter()) < begin + seconds:
            if await ask(next(numbers)):
                latencies.append(time.perf_counter() - started)

    await asyncio.gather(*(user() for _ in range(concurrency)))
    return latencies, len(latencies) / (time.perf_counter() - begin)
