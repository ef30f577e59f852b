"""Pure ASGI middleware: the frame of every request, and the intake of its body.

`BaseHTTPMiddleware` would cost two thirds of the throughput, and hides the client's disconnect.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors
from service.metrics import Metrics, Stages

GONE = 499
_log = structlog.get_logger()
_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id(headers: Headers) -> str:
    """The caller's id when it is fit to be echoed and logged, else a new one."""
    given = headers.get(errors.REQUEST_ID, "")
    return given if _ACCEPTABLE_ID.fullmatch(given) else secrets.token_hex(16)


class Frame:
    """Gives a request its id and its stages, counts and times it, and turns a fault of ours into a problem."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(Headers(scope=scope))
        stages = state["stages"] = Stages()
        status = GONE  # stands when nothing is sent, because nobody is left to receive it
        started = time.perf_counter()

        async def send_framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += [
                    (errors.REQUEST_ID.encode(), state["request_id"].encode()),
                    (b"server-timing", stages.server_timing().encode()),
                ]
            await send(message)

        self.metrics.inflight.inc()
        try:
            await self.app(scope, receive, send_framed)
        except Exception as error:
            _log.exception("unexpected fault", request_id=state["request_id"])
            if status != GONE:
                raise  # half an answer is out: only closing the connection is left
            await errors.crash(error, state["request_id"])(scope, receive, send_framed)
        finally:
            self.metrics.inflight.dec()
            route = getattr(scope.get("route"), "path", "unknown")
            self.metrics.request(route, status).inc()
            self.metrics.answer(route, state.get("variant", "")).observe(time.perf_counter() - started)


class _TooLarge(Exception):  # noqa: N818 - a signal inside this module
    pass


class _ClientGone(Exception):  # noqa: N818 - a signal inside this module
    pass


class Intake:
    """Refuses bodies that are too large, and cancels the work for a client that has left."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, on_client_gone: Callable[[], None]) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.on_client_gone = on_client_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        try:
            await self._run(await self._read(Headers(scope=scope), receive), scope, receive, send)
        except _TooLarge:
            detail = f"a body has at most {self.max_body_bytes} bytes; split the request into several"
            found = errors.problem(errors.TOO_LARGE, detail, scope["state"]["request_id"])
            await errors.response(found)(scope, receive, send)
        except _ClientGone:
            self.on_client_gone()

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.max_body_bytes:
            raise _TooLarge
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.max_body_bytes:
                raise _TooLarge
            if not message.get("more_body", False):
                return b"".join(chunks)

    async def _run(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on the body while a watcher waits for the client to leave."""
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        answered = gone = False
        task = asyncio.current_task()
        assert task is not None

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        async def send_noting(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] == "http.response.start"
            await send(message)

        async def watch() -> None:
            nonlocal gone
            # The body is read, so the next message is the disconnect; the server also sends it after the answer.
            await receive()
            if not answered:
                gone = True
                task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await self.app(scope, replay, send_noting)
        except asyncio.CancelledError:
            if not gone:
                raise
            task.uncancel()
            raise _ClientGone from None
        finally:
            watcher.cancel()
