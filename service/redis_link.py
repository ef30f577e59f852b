"""The way to Redis: bounded connections, a deadline on every round trip, and a breaker for when it is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import StoreUnavailableError
from service.metrics import Metrics

Result = TypeVar("Result")

FAILURES_TO_OPEN = 3
OPEN_S = 0.5


class Breaker:
    """Skips calls for a while after several failures in a row, so that a dead server does not cost a deadline each."""

    def __init__(self, failures: int = FAILURES_TO_OPEN, open_s: float = OPEN_S) -> None:
        self._limit = failures
        self._open_s = open_s
        self._failures = 0
        self._until = 0.0

    @property
    def open(self) -> bool:
        """Whether calls are to be skipped now. When the time is over one call may try, and decides what follows."""
        if self._failures < self._limit:
            return False
        now = time.monotonic()
        if now < self._until:
            return True
        self._until = now + self._open_s
        return False

    def succeed(self) -> None:
        """Close."""
        self._failures = 0

    def fail(self) -> None:
        """Count a failure; open when there have been enough in a row."""
        self._failures += 1
        self._until = time.monotonic() + self._open_s


class RedisLink:
    """A client of one Redis, or of none (url None): then every call fails at once."""

    def __init__(self, url: str | None, connections: int, deadline_s: float, metrics: Metrics) -> None:
        self._client = None if url is None else _client(url, connections, deadline_s)
        self._deadline_s = deadline_s
        self._metrics = metrics
        self._breaker = Breaker()

    async def call(
        self, operation: str, command: Callable[[Redis], Awaitable[Result]], deadline_s: float | None = None
    ) -> Result:
        """Run a command within its deadline (None: the one of requests).

        Raises:
            StoreUnavailableError: Redis failed, was too slow, or has just been.
        """
        client = self._client
        if client is None:
            raise StoreUnavailableError("there is no Redis: none is configured, and none could be started")
        if self._breaker.open:
            raise StoreUnavailableError(
                f"Redis failed {FAILURES_TO_OPEN} times in a row and is left alone for a moment"
            )
        limit = self._deadline_s if deadline_s is None else deadline_s
        try:
            with self._metrics.redis.labels(operation).time():
                async with asyncio.timeout(limit):
                    result = await command(client)
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.fail()
            self._metrics.redis_failures.labels(operation).inc()
            raise StoreUnavailableError(
                f"Redis must answer {operation} within {limit * 1e3:g} ms, got {type(error).__name__}: {error}"
            ) from error
        self._breaker.succeed()
        return result

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()


def _client(url: str, connections: int, timeout_s: float) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_s,
        protocol=3,
        # One retry at once: after a restart of the server the first command meets a dead connection.
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)
