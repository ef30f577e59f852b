"""The way around the framework for the one route that is called all the time.

FastAPI documents the endpoint, and answers whatever is not a plain, valid request: it words the refusals. For the rest
its routing, dependencies and checks of the answer would take as long as all else around the graphs that is not numbers.
"""

from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import TandemError
from service import errors
from service.runtime import Runtime

_JSON = b"application/json"


class Direct:
    """Calls the endpoint of one route itself when it can; otherwise the application does."""

    def __init__(self, app: ASGIApp, route: APIRoute, runtime: Runtime) -> None:
        """Take a POST route; its endpoint has the parameters `body`, `request` and `runtime`."""
        self.app = app
        self._route = route
        self._runtime = runtime
        types = get_type_hints(route.endpoint)
        self._body: TypeAdapter[Any] = TypeAdapter(types["body"])
        self._answer: TypeAdapter[Any] = TypeAdapter(types["return"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; the body must come as one message."""
        if scope["type"] != "http" or scope["path"] != self._route.path or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        message = await receive()
        try:
            body = self._body.validate_json(message["body"]) if _is_json(scope) else None
        except ValidationError:
            body = None
        if body is None:
            return await self.app(scope, _again(message, receive), send)
        scope["route"] = self._route
        request = Request(scope, receive)
        try:
            answer = await self._route.endpoint(body, request, self._runtime)
        except TandemError as error:
            response = await errors.on_tandem_error(request, error)
        else:
            response = Response(self._answer.dump_json(answer), media_type="application/json")
        await response(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    return len(types) == 1 and types[0].partition(b";")[0].strip().lower() == _JSON


def _again(message: Message, receive: Receive) -> Receive:
    """`receive` with `message` put back before the others."""
    first = [message]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again
