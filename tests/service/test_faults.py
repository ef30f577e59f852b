"""What happens when parts die, queues fill, deadlines pass and clients leave: with real processes and sockets."""

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.runtime import Runtime
from tests.service.redis_parts import age
from tests.service.servers import alive, altered, application, busy, metric, ready, serve, served, until
from tests.service.test_errors import check

HISTORY = ["T003", "T014", "T015"]


def ask(client: httpx2.Client, **request: Any) -> dict[str, Any]:
    response = client.post("/v1/recommend", json={"history": HISTORY, **request})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_silent_redis_degrades_answers_until_it_speaks_again(bundle_path: Path) -> None:
    with served(bundle_path, index_cache_items=0, redis_deadline_ms=200.0) as server:
        healthy = ask(server.client, variant="ensemble_tiger")
        assert healthy["degraded"] == []
        pid = server.redis_pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            degraded = ask(server.client, variant="ensemble_tiger")
            assert degraded["degraded"] == ["transition_index"]
            assert degraded["items"] == healthy["items"]
            assert ask(server.client, history=None, user_id="u")["degraded"] == ["user_history"]
            event = {"events": [{"user_id": "u", "item_id": "T001"}]}
            check(server.client.post("/v1/events", json=event), 503, "store-unavailable")
            for _ in range(3):
                ask(server.client)
            quick = [ask(server.client)["timings"]["index_ms"] for _ in range(5)]
            assert min(quick) < 100  # the breaker is open: not every request pays the deadline
            assert server.client.get("/readyz").json()["redis"] == "unavailable"
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: ask(server.client)["degraded"] == [], "Redis is used again")


def test_while_redis_is_silent_what_is_in_process_answers_for_five_rounds(bundle_path: Path) -> None:
    with ready(bundle_path, index_cache_seconds=60.0, redis_deadline_ms=200.0) as (runtime, client):
        until(lambda: runtime.recommender.cache._changes.known, "changes are followed")
        healthy = ask(client, variant="ensemble_tiger")
        assert runtime._redis is not None
        assert runtime._redis.pid is not None
        os.kill(runtime._redis.pid, signal.SIGSTOP)
        try:
            assert ask(client, variant="ensemble_tiger")["degraded"] == []
            age(runtime.recommender.cache, 5 * 60)
            degraded = ask(client, variant="ensemble_tiger")
            assert degraded["degraded"] == ["transition_index"]
            assert degraded["items"] == healthy["items"]
        finally:
            os.kill(runtime._redis.pid, signal.SIGCONT)
        until(lambda: ask(client, variant="ensemble_tiger")["degraded"] == [], "Redis is used again")


def test_a_killed_redis_is_started_again_and_filled(bundle_path: Path) -> None:
    with served(bundle_path, index_cache_items=0) as server:
        pid = server.redis_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        answer = ask(server.client)
        assert answer["degraded"] in ([], ["transition_index"])
        until(lambda: server.redis_pid() not in (None, pid), "there is another Redis")
        until(lambda: ask(server.client)["degraded"] == [], "it has been filled")
        until(lambda: server.client.get("/readyz").json()["transition_index"] == "loaded", "the upkeep is over")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_redis_outlives_the_service(bundle_path: Path, ending: signal.Signals) -> None:
    with served(bundle_path) as server:
        pid = server.redis_pid()
        assert pid is not None
        folder = Path(os.readlink(f"/proc/{pid}/cwd"))
        assert folder.name.startswith("tandem-redis-")
        server.process.send_signal(ending)
        server.process.wait(20)
        until(lambda: not alive(pid), "Redis is gone")
        if ending is not signal.SIGKILL:
            assert not folder.exists()


def test_a_damaged_bundle_is_refused_with_the_reason(bundle_path: Path, tmp_path: Path) -> None:
    damaged = altered(bundle_path, tmp_path / "bundle", lambda manifest: None)
    content = bytearray((damaged / "sasrec.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "sasrec.onnx").write_bytes(content)
    process = serve(damaged, log_level="error")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "sasrec.onnx must have" in log.splitlines()[-1]
    assert "Traceback" not in log


def test_a_service_without_a_bundle_lives_but_is_not_ready(bundle_path: Path, tmp_path: Path) -> None:
    def widen(manifest: dict[str, Any]) -> None:
        manifest["graphs"]["sasrec"]["width"] = 21

    with application(altered(bundle_path, tmp_path / "bundle", widen)) as (runtime, client):
        until(lambda: runtime.failure, "the bundle is refused")
        assert client.get("/livez").status_code == 200
        found = check(client.get("/readyz"), 503, "not-ready")
        assert "graph sasrec" in found["detail"]
        assert "promises lists of 21" in found["detail"]
        for path, body in (
            ("/v1/recommend", {}),
            ("/v1/recommend:batch", {"requests": [{}]}),
            ("/v1/events", {"events": [{"user_id": "u", "item_id": "i"}]}),
        ):
            assert client.post(path, json=body).headers["retry-after"] == "1"
            check(client.post(path, json=body), 503, "not-ready")
        check(client.get("/v1/models"), 503, "not-ready")


def test_one_request_too_many_is_a_429(bundle_path: Path) -> None:
    with ready(bundle_path, queue_limit=1, workers=1) as (runtime, client):
        with busy(runtime):
            waiting = Background(client, {"history": HISTORY})
            until(lambda: metric(client, "tandem_inflight_requests") > 1, "the first request is in flight")
            refused = client.post("/v1/recommend", json={"history": HISTORY})
            assert refused.headers["retry-after"] == "1"
            assert "at most 1 requests" in check(refused, 429, "overloaded")["detail"]
        assert waiting.result().status_code == 200
        assert metric(client, "tandem_rejected_total", reason="overloaded") == 1
        ask(client)  # the place is free again


def test_a_passed_deadline_is_a_504_and_costs_nothing(bundle_path: Path) -> None:
    with ready(bundle_path, workers=1) as (runtime, client):
        with busy(runtime):
            blocking = Background(client, {"history": HISTORY, "variant": "sasrec"})
            until(lambda: metric(client, "tandem_batch_size_count", graph="sasrec") > 0, "it holds the only slot")
            before = metric(client, "tandem_batch_size_count", graph="tiger")
            late = client.post("/v1/recommend", json={"history": HISTORY, "variant": "tiger", "deadline_ms": 50})
            assert "not ready within 50 ms" in check(late, 504, "deadline")["detail"]
        assert blocking.result().status_code == 200
        # Two, if the deadline also found the request's one read of the index still in its queue.
        until(lambda: metric(client, "tandem_rejected_total", reason="dropped") in (1, 2), "the late job is dropped")
        until(lambda: metric(client, "tandem_queue_depth", graph="tiger") == 0, "nothing waits any more")
        assert metric(client, "tandem_batch_size_count", graph="tiger") == before
        assert metric(client, "tandem_rejected_total", reason="deadline") == 1


def test_the_work_of_a_client_that_has_left_is_dropped(bundle_path: Path) -> None:
    with ready(bundle_path, workers=1) as (runtime, client):
        with busy(runtime):
            blocking = Background(client, {"history": HISTORY, "variant": "sasrec"})
            until(lambda: metric(client, "tandem_inflight_requests") > 1, "it holds the only slot")
            before = metric(client, "tandem_batch_size_count", graph="tiger")
            body = json.dumps({"history": HISTORY, "variant": "tiger"}).encode()
            with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as raw:
                raw.sendall(
                    b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (len(body), body)
                )
                until(lambda: metric(client, "tandem_queue_depth", graph="tiger") == 1, "it waits")
            until(lambda: metric(client, "tandem_rejected_total", reason="client_gone") == 1, "it is noticed")
            assert metric(client, "tandem_inflight_requests") == 2  # the blocking one and this look at the metrics
        assert blocking.result().status_code == 200
        until(lambda: metric(client, "tandem_rejected_total", reason="dropped") == 1, "its job is dropped")
        assert metric(client, "tandem_batch_size_count", graph="tiger") == before
        assert metric(client, "tandem_requests_total", status="499") == 1


def test_answers_degrade_along_the_chain_when_graphs_fail(bundle_path: Path) -> None:
    with ready(bundle_path, max_k=60) as (runtime, client):
        whole = ask(client, variant="ensemble_tiger")
        assert whole["fallback"] is None

        unbroken = Breakage(runtime)
        unbroken.break_graph("tiger")
        answer = ask(client, variant="ensemble_tiger")
        assert (answer["fallback"], answer["degraded"]) == ("sasrec", ["tiger"])
        assert answer["items"] == ask(client, variant="sasrec")["items"]
        assert answer["alpha"] is None

        unbroken.break_graph("sasrec")
        answer = ask(client, variant="ensemble_tiger")
        assert (answer["fallback"], sorted(answer["degraded"])) == ("transitions", ["sasrec", "tiger"])
        assert answer["model"]["graphs"] == []
        counts = [item["sources"]["transitions"]["score"] for item in answer["items"] if item["score"] is not None]
        assert counts[0] == max(counts)
        assert answer["items"][0]["category"] == "memorization"
        assert not {item["item_id"] for item in answer["items"]} & set(HISTORY)

        last_resort = [item["item_id"] for item in ask(client, history=[])["items"]]
        lonely = ask(client, history=["T003"], variant="tiger", filters={"include_item_ids": last_resort})
        assert lonely["degraded"] == ["tiger"]
        assert metric(client, "tandem_graph_failures_total", graph="tiger") > 0
        assert metric(client, "tandem_fallbacks_total", fallback="transitions") > 0

        unbroken.mend()
        assert ask(client, variant="ensemble_tiger")["items"] == whole["items"]


def test_a_fault_of_the_service_is_a_500_with_the_id_that_the_log_has(bundle_path: Path) -> None:
    with ready(bundle_path) as (runtime, client):
        vars(runtime.recommender).pop("_presenter")
        response = client.post("/v1/recommend", json={"history": HISTORY}, headers={"x-request-id": "the-id"})
        found = check(response, 500, "internal")
        assert found["request_id"] == "the-id"
        assert "AttributeError" in found["detail"]
        assert metric(client, "tandem_requests_total", route="/v1/recommend", status="500") == 1


def test_what_is_no_bundle_is_refused_whatever_it_raises(bundle_path: Path, tmp_path: Path) -> None:
    folder = altered(bundle_path, tmp_path / "bundle", lambda manifest: manifest["files"].clear())
    (folder / "items.parquet").write_bytes(b"no parquet")
    with application(folder) as (runtime, client):
        until(lambda: runtime.failure, "the bundle is refused")
        check(client.get("/readyz"), 503, "not-ready")


def test_without_any_redis_the_service_is_ready_and_says_what_is_missing(bundle_path: Path) -> None:
    with ready(bundle_path, redis_url="redis://127.0.0.1:1/0", redis_deadline_ms=50.0) as (_, client):
        assert client.get("/readyz").json()["redis"] == "unavailable"
        answer = ask(client, variant="ensemble_tiger")
        assert answer["degraded"] == ["transition_index"]
        assert answer["fallback"] is None
        check(client.post("/v1/events", json={"events": [{"user_id": "u", "item_id": "i"}]}), 503, "store-unavailable")


class Background:
    """A request that runs in a thread, as its answer has to wait."""

    def __init__(self, client: httpx2.Client, body: dict[str, Any]) -> None:
        self._answers: list[httpx2.Response] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(client.post("/v1/recommend", json=body)), daemon=True
        )
        self._thread.start()

    def result(self) -> httpx2.Response:
        self._thread.join(20)
        return self._answers[0]


class Breakage:
    """Makes graphs of a running service fail, by taking their sessions away."""

    def __init__(self, runtime: Runtime) -> None:
        self._opened = runtime.recommender.engine.graphs.opened
        self._whole = dict(self._opened)

    def break_graph(self, name: str) -> None:
        del self._opened[name]

    def mend(self) -> None:
        self._opened.update(self._whole)
