"""The way to Redis: every round trip has a deadline, and what fails says so in one exception."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TypeVar

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from service.errors import StoreFullError, StoreUnavailableError
from service.metrics import Metrics
from service.redis_nodes import FAILURES_TO_OPEN, Node, Nodes

Result = TypeVar("Result")
Command = Callable[[Redis], Awaitable[Result]]

TICKS = 5
TOPOLOGY_DEADLINE_S = 0.5


async def patiently(work: Awaitable[Result], limit_s: float) -> Result:
    """The result of `work`, if it comes within `limit_s`.

    The time is counted in ticks, and a tick that the event loop noticed late counts once. A reply that waits in the
    socket while the loop is busy is so read before the time is up: that the loop is slow is no fault of Redis.

    Raises:
        TimeoutError: it took longer, and was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(TICKS):
            await asyncio.wait((task,), timeout=limit_s / TICKS)
            if task.done():
                return task.result()
        raise TimeoutError("no reply")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class RedisLink:
    """A client of one Redis, of a Redis Cluster, or of none (url None): then every call fails at once."""

    def __init__(self, url: str | None, connections: int, deadline_s: float, metrics: Metrics) -> None:
        self._nodes = None if url is None else Nodes(url, connections)
        self._deadline_s = deadline_s
        self._metrics = metrics

    async def refresh(self) -> None:
        """Learn which node of a cluster holds what; call it now and then, and before anything else.

        Raises:
            StoreUnavailableError: no node answers.
        """
        if self._nodes is None or not self._nodes.clustered:
            return
        for node in self._nodes.known:
            try:
                slots = await self._run("topology", node, lambda redis: redis.cluster("SLOTS"), TOPOLOGY_DEADLINE_S)
            except StoreUnavailableError:
                continue
            for gone in self._nodes.learn(slots, node):
                await gone.client.aclose()
            return
        raise StoreUnavailableError("some node of the Redis cluster must answer CLUSTER SLOTS, and none does")

    async def call(self, operation: str, key: str, command: Command[Result], deadline_s: float | None = None) -> Result:
        """Run a command, or a pipeline, on the server that holds `key`, within its deadline (None: that of requests).

        Raises:
            StoreFullError: Redis has no memory left.
            StoreUnavailableError: Redis failed, was too slow, or has just been.
        """
        return await self._run(operation, self._of(key), command, deadline_s or self._deadline_s)

    async def mget(self, operation: str, keys: Sequence[str]) -> dict[str, bytes | None]:
        """The values of keys, None where there is none; a key whose server did not answer is left out.

        One round trip, which on a cluster goes to all nodes at the same time.

        Raises:
            StoreUnavailableError: there is no server for one of the keys.
        """
        reads = (self.call(operation, group[0], self._read(group)) for group in self.by_node(keys))
        answers = await asyncio.gather(*reads, return_exceptions=True)
        found: dict[str, bytes | None] = {}
        for answer in answers:
            if isinstance(answer, dict):
                found |= answer
            elif not isinstance(answer, StoreUnavailableError):
                raise answer
        return found

    async def answers(self) -> bool:
        """Whether every server answers now."""
        serving = self._nodes.serving if self._nodes is not None else []
        try:
            for node in serving:
                await self._run("ping", node, lambda redis: redis.ping(), self._deadline_s)
        except StoreUnavailableError:
            return False
        return bool(serving)

    def by_node(self, keys: Sequence[str]) -> list[list[str]]:
        """The keys in groups that one pipeline can carry.

        Raises:
            StoreUnavailableError: there is no server for one of the keys.
        """
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for key in keys:
            groups[self._of(key).url].append(key)
        return list(groups.values())

    async def close(self) -> None:
        """Close all connections."""
        for node in self._nodes.known if self._nodes is not None else ():
            await node.client.aclose()

    def _of(self, key: str) -> Node:
        if self._nodes is None:
            raise StoreUnavailableError("there is no Redis: none is configured, and none could be started")
        return self._nodes.of(key)

    def _read(self, keys: Sequence[str]) -> Command[dict[str, bytes | None]]:
        """Read keys of one server."""
        assert self._nodes is not None
        groups: defaultdict[int, list[str]] = defaultdict(list)
        for key in keys:
            # The keys of one command must share a slot, on a cluster.
            groups[key_slot(key.encode()) if self._nodes.clustered else 0].append(key)

        async def read(redis: Redis) -> dict[str, bytes | None]:
            pipeline = redis.pipeline(transaction=False)
            for group in groups.values():
                pipeline.mget(group)
            values = chain.from_iterable(await pipeline.execute())
            return dict(zip(chain.from_iterable(groups.values()), values, strict=True))

        return read

    async def _run(self, operation: str, node: Node, command: Command[Result], limit_s: float) -> Result:
        async with node.free:
            if node.breaker.open:
                raise StoreUnavailableError(
                    f"Redis failed {FAILURES_TO_OPEN} times in a row and is left alone for a moment"
                )
            try:
                with self._metrics.redis.labels(operation).time():
                    result = await patiently(command(node.client), limit_s)
            except (RedisError, OSError, TimeoutError) as error:
                self._metrics.redis_failures.labels(operation).inc()
                if isinstance(error, ResponseError):
                    node.breaker.succeed()  # a refusal is an answer too: it costs nobody a deadline
                else:
                    node.breaker.fail()
                raise _failure(operation, limit_s, error) from error
            node.breaker.succeed()
            return result


def _failure(operation: str, limit_s: float, error: Exception) -> StoreUnavailableError:
    # From inside a script, the refusal of a write stands within another message.
    if isinstance(error, OutOfMemoryError) or (isinstance(error, ResponseError) and "OOM command" in str(error)):
        return StoreFullError(f"Redis must have memory left for {operation}, got: {error}. Raise its maxmemory.")
    return StoreUnavailableError(
        f"Redis must answer {operation} within {limit_s * 1e3:g} ms, got {type(error).__name__}: {error}"
    )
