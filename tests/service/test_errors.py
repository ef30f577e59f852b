"""Whatever a client sends: the right status, one shape, a message that helps, never a 500."""

import socket
from typing import Any

import httpx2
import pytest

from models.errors import TandemError
from service import errors

PROBLEM = {"type", "title", "status", "detail", "request_id"}
JSON = {"content-type": "application/json"}


def check(response: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem in a response, once its shape is right."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert set(found) in (PROBLEM, PROBLEM | {"errors"})
    assert found["type"] == f"urn:tandem:problem:{slug}"
    assert found["status"] == status
    assert found["request_id"] == response.headers["x-request-id"]
    return found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"history": ["T001", "nope"]}, "history must name items of tiny@1, got unknown 'nope'"),
        ({"history": [f"no-{n}" for n in range(9)]}, "'no-4' and 4 more"),
        ({"history": [f"T{n % 60:03d}" for n in range(1001)]}, "history must hold at most 1000 items, got 1001"),
        ({"history": ["T001", 2]}, "body.history.1: Input should be a valid string, got 2"),
        ({"history": ["T001", None]}, "body.history.1"),
        ({"history": [""]}, "body.history.0: String should have at least 1 character, got ''"),
        ({"history": "T001"}, "body.history: Input should be a valid list, got 'T001'"),
        ({"k": 0}, "body.k: Input should be greater than or equal to 1, got 0"),
        ({"k": -1}, "body.k"),
        ({"k": 10**6}, "k must be at most 100, got 1000000; the limit is the service's TANDEM_MAX_K"),
        ({"k": "10"}, "body.k: Input should be a valid integer, got '10'"),
        ({"k": False}, "body.k: Input should be a valid integer, got False"),
        ({"k": 10.5}, "body.k"),
        ({"k": 10**30}, "k must be at most 100"),
        ({"user_id": ""}, "body.user_id"),
        ({"user_id": "x" * 257}, "body.user_id: String should have at most 256 characters"),
        ({"user_id": 7}, "body.user_id"),
        ({"variant": "gpt"}, "body.variant: Input should be 'tiger', 'sid_mlp', 'sid_mlp_pp', 'sasrec'"),
        (
            {"variant": "sid_mlp_pp"},
            "variant must be one that tiny@1 has the graphs for, ['tiger', 'sid_mlp', 'sasrec'",
        ),
        ({"variant": "ensemble_sid_mlp_pp"}, "got 'ensemble_sid_mlp_pp'"),
        ({"unknown_items": "maybe"}, "body.unknown_items"),
        ({"exclude_seen": 1}, "body.exclude_seen"),
        ({"deadline_ms": 0}, "body.deadline_ms"),
        ({"deadline_ms": 10**9}, "deadline_ms must be at most 10000, got 1000000000"),
        ({"filters": {"category": "x"}}, "body.filters.category: Extra inputs are not permitted; remove the field"),
        ({"histroy": []}, "body.histroy: Extra inputs are not permitted"),
        ([], "body: Input should be"),
        (None, "body: Field required"),
        ("x" * 1000, "characters)"),
    ],
)
def test_a_request_that_breaks_a_rule_is_a_422(client: httpx2.Client, body: Any, message: str) -> None:
    found = check(client.post("/v1/recommend", json=body), 422, "invalid-request")
    assert message in found["detail"]
    assert len(found["detail"]) < 400


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"null"])
def test_numbers_outside_json_are_refused(client: httpx2.Client, literal: bytes) -> None:
    response = client.post("/v1/recommend", content=b'{"k": %s}' % literal, headers=JSON)
    assert "body.k" in check(response, 422, "invalid-request")["detail"]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"history=T001",
        b'{"history": ["\xff\xfe"]}',
        b"\xff",
        b"[" * 100_000,
        b'{"k": ' + b"9" * 10_000 + b"}",
        b'{"k": 1,}',
    ],
)
def test_what_is_not_json_is_a_400(client: httpx2.Client, content: bytes) -> None:
    found = check(client.post("/v1/recommend", content=content, headers=JSON), 400, "malformed")
    assert found["detail"].startswith("the body must be JSON")


@pytest.mark.parametrize(
    "content", [b"", b'{"user_id": "\\ud800"}', b'{"history": ["\\udfff"]}', b'{"\\ud800": 1}', b"\x00"]
)
def test_odd_bodies_are_refused(client: httpx2.Client, content: bytes) -> None:
    response = client.post("/v1/recommend", content=content, headers=JSON)
    assert response.status_code in (400, 422)
    check(response, response.status_code, "malformed" if response.status_code == 400 else "invalid-request")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "", "application/xml", "nonsense"])
def test_another_content_type_is_refused(client: httpx2.Client, content_type: str) -> None:
    response = client.post("/v1/recommend", content=b'{"k": 3}', headers={"content-type": content_type})
    check(response, 422, "invalid-request")


def test_a_large_body_is_a_413_announced_or_not(client: httpx2.Client) -> None:
    large = b'{"user_id": "' + b"x" * 10_000_000 + b'"}'
    announced = client.post("/v1/recommend", content=large, headers=JSON)
    assert "at most 1048576 bytes" in check(announced, 413, "too-large")["detail"]
    chunks = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    check(client.post("/v1/recommend", content=chunks, headers=JSON), 413, "too-large")
    assert client.get("/livez").status_code == 200


def test_unknown_paths_and_methods(client: httpx2.Client) -> None:
    assert "'/v1/recomend'" in check(client.post("/v1/recomend"), 404, "not-found")["detail"]
    check(client.get("/v1/recommend/"), 404, "not-found")
    wrong = client.get("/v1/recommend")
    assert "takes POST, got GET" in check(wrong, 405, "method-not-allowed")["detail"]
    assert wrong.headers["allow"] == "POST"
    check(client.delete("/readyz"), 405, "method-not-allowed")


def test_the_bounds_of_batches_and_events(client: httpx2.Client) -> None:
    check(client.post("/v1/recommend:batch", json={"requests": []}), 422, "invalid-request")
    check(client.post("/v1/recommend:batch", json={"requests": {}}), 422, "invalid-request")
    many = client.post("/v1/recommend:batch", json={"requests": [{}] * 65})
    assert "at most 64 entries, got 65" in check(many, 422, "invalid-request")["detail"]
    check(client.post("/v1/events", json={"events": []}), 422, "invalid-request")
    check(client.post("/v1/events", json={"events": [{"user_id": "u"}]}), 422, "invalid-request")
    event = {"user_id": "u", "item_id": "T001"}
    crowd = client.post("/v1/events", json={"events": [event] * 1001})
    assert "at most 1000 entries, got 1001" in check(crowd, 422, "invalid-request")["detail"]


def test_a_broken_request_line_does_not_harm_the_service(client: httpx2.Client) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n")
        assert b"400" in raw.recv(1024)
    assert client.get("/livez").status_code == 200


def test_openapi_declares_every_status(client: httpx2.Client) -> None:
    schema = client.get("/openapi.json").json()
    work = {"200", "400", "413", "422", "429", "500", "503", "504"}
    assert set(schema["paths"]["/v1/recommend"]["post"]["responses"]) == work
    assert set(schema["paths"]["/v1/recommend:batch"]["post"]["responses"]) == work - {"429", "504"}
    assert set(schema["paths"]["/v1/events"]["post"]["responses"]) == work - {"429", "504"}
    for path in ("/livez", "/readyz", "/v1/models", "/metrics"):
        assert {"200", "500"} <= set(schema["paths"][path]["get"]["responses"])
    for responses in (operation["responses"] for path in schema["paths"].values() for operation in path.values()):
        for status, response in responses.items():
            if status != "200":
                assert list(response["content"]) == ["application/problem+json"]
    assert set(schema["components"]["schemas"]["Problem"]["required"]) == PROBLEM
    batch = schema["components"]["schemas"]["BatchRequest"]["properties"]["requests"]["items"]
    assert batch == {"$ref": "#/components/schemas/RecommendRequest"}


def test_every_error_of_the_service_is_in_the_table() -> None:
    def leaves(kind: type[TandemError]) -> list[type[TandemError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    assert set(leaves(errors.ServiceError)) - {errors.ServiceError} <= set(errors.BY_EXCEPTION)
