"""What can go wrong while serving, as one table to HTTP and one JSON shape (RFC 9457 plus `request_id`).

* TandemError (models.errors)
  x RequestError           a request that breaks a rule                        422
  x ServiceError           the service cannot answer now
    x OverloadedError      too many requests in flight                         429
    x NotReadyError        no bundle is loaded yet, or none could be           503
    x StoreUnavailableError  Redis is needed for this request and is away      503
      x StoreFullError     Redis has no memory left for it                     503
    x DeadlineError        the deadline passed before the answer was ready     504
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from models.errors import RequestError, TandemError

PROBLEM_TYPE = "application/problem+json"
REQUEST_ID = "x-request-id"
_SHOWN = 120  # characters of a received value that a message repeats


class ServiceError(TandemError):
    """The service cannot answer this request now; the request itself is in order."""


class OverloadedError(ServiceError):
    """As many requests are in flight as the service takes."""


class NotReadyError(ServiceError):
    """No bundle is being served."""


class StoreUnavailableError(ServiceError):
    """Redis is needed and does not answer."""


class StoreFullError(StoreUnavailableError):
    """Redis answers, and has no memory left."""


class DeadlineError(ServiceError):
    """The deadline of the request passed."""


class Fault(BaseModel):
    """One broken rule of a request."""

    model_config = ConfigDict(frozen=True)

    location: list[str | int]
    message: str


class Problem(BaseModel):
    """The body of every answer with status 400 or above."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Fault] | None = None


class Kind(NamedTuple):
    """Status, name and title of one kind of problem."""

    status: int
    slug: str
    title: str
    retry_after_s: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the problem."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


MALFORMED = Kind(400, "malformed", "The body is not JSON in UTF-8")
NOT_FOUND = Kind(404, "not-found", "No such path")
METHOD = Kind(405, "method-not-allowed", "The path does not take this method")
TOO_LARGE = Kind(413, "too-large", "The body is too large")
INVALID = Kind(422, "invalid-request", "The request breaks a rule")
OVERLOADED = Kind(429, "overloaded", "Too many requests in flight", retry_after_s=1)
INTERNAL = Kind(500, "internal", "A fault of the service")
NOT_READY = Kind(503, "not-ready", "The service is not ready", retry_after_s=1)
STORE = Kind(503, "store-unavailable", "The store is unavailable", retry_after_s=1)
DEADLINE = Kind(504, "deadline", "The deadline passed")

BY_EXCEPTION: Mapping[type[TandemError], Kind] = {
    RequestError: INVALID,
    OverloadedError: OVERLOADED,
    NotReadyError: NOT_READY,
    StoreUnavailableError: STORE,
    StoreFullError: STORE,
    DeadlineError: DEADLINE,
}
BY_STATUS: Mapping[int, Kind] = {kind.status: kind for kind in (MALFORMED, NOT_FOUND, METHOD, TOO_LARGE)}


def problem(kind: Kind, detail: str, request_id: str, errors: list[Fault] | None = None) -> Problem:
    """A problem of that kind."""
    return Problem(
        type=f"urn:tandem:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        request_id=request_id,
        errors=errors,
    )


def problem_of(error: TandemError, request_id: str) -> Problem:
    """The problem that an exception of the tree stands for."""
    return problem(BY_EXCEPTION.get(type(error), INTERNAL), str(error), request_id)


def invalid(errors: Sequence[Any], request_id: str) -> Problem:
    """The problem that pydantic's errors stand for."""
    faults = [Fault(location=list(error["loc"]), message=_message(error)) for error in errors]
    first = f"{'.'.join(map(str, faults[0].location)) or 'body'}: {faults[0].message}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return problem(INVALID, first + more, request_id, faults)


def shown(value: Any) -> str:
    """A received value as a message may repeat it: ASCII and short, so that any input can be shown."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _message(error: Mapping[str, Any]) -> str:
    text: str = error["msg"]
    if error["type"] == "missing":
        return text
    if error["type"] == "extra_forbidden":
        return f"{text}; remove the field, the API's fields are listed at /docs"
    # The input is cut before it is formatted: the body of a large batch is not worth rendering to show its beginning.
    value = error.get("input")
    return f"{text}, got {shown(value) if isinstance(value, str | int | float | None) else type(value).__name__}"


def response(found: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an HTTP response."""
    return Response(found.model_dump_json(exclude_none=True), found.status, headers, PROBLEM_TYPE)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave the request."""
    return str(request.scope["state"]["request_id"])


async def on_tandem_error(request: Request, error: Exception) -> Response:
    """Map an exception of the tree."""
    assert isinstance(error, TandemError)
    kind = BY_EXCEPTION.get(type(error), INTERNAL)
    return response(problem_of(error, request_id_of(request)), kind.headers)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Map what FastAPI found wrong with a body: 400 when it is not JSON, 422 when it breaks the schema."""
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if errors and errors[0]["type"] == "json_invalid":
        detail = f"the body must be JSON: {errors[0]['ctx']['error']} at character {errors[0]['loc'][-1]}"
        return response(problem(MALFORMED, detail, request_id_of(request)))
    return response(invalid(errors, request_id_of(request)))


async def on_http_error(request: Request, error: Exception) -> Response:
    """Map what the framework refuses: unknown paths, methods, bodies it cannot decode."""
    assert isinstance(error, HTTPException)
    kind = BY_STATUS.get(error.status_code, Kind(error.status_code, "http", str(error.detail)))
    details = {
        MALFORMED: "the body must be JSON in UTF-8",
        NOT_FOUND: f"{shown(request.url.path)} is not a path of this service; /docs lists them",
        METHOD: f"{request.url.path} takes {(error.headers or {}).get('Allow', 'other methods')}, got {request.method}",
    }
    detail = details.get(kind, str(error.detail))
    return response(problem(kind, detail, request_id_of(request)), error.headers)


def crash(error: Exception, request_id: str) -> Response:
    """The response to a fault of ours; the request id joins it with the traceback in the log."""
    detail = f"an unexpected {type(error).__name__}; the log has it under request id {request_id}"
    return response(problem(INTERNAL, detail, request_id))


def install(app: FastAPI) -> None:
    """Register every handler."""
    app.add_exception_handler(TandemError, on_tandem_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
