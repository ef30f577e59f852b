"""Metrics: the buckets, the stages, and what a scrape of a real service shows."""

import itertools
import time

import httpx2
import pytest

from service.metrics import LATENCY_BUCKETS, Stages
from tests.service.servers import metric


def test_the_objective_is_a_bucket_edge_and_the_steps_are_even() -> None:
    assert 0.05 in LATENCY_BUCKETS
    assert (LATENCY_BUCKETS[0], LATENCY_BUCKETS[-1]) == (0.0005, 5.0)
    assert list(LATENCY_BUCKETS) == sorted(set(LATENCY_BUCKETS))
    assert max(high / low for low, high in itertools.pairwise(LATENCY_BUCKETS)) < 1.61


def test_stages_add_up_and_overlap() -> None:
    stages = Stages()
    with stages.measure("a"):
        time.sleep(0.002)
    stages.add("b", 0.001)
    stages.add("b", 0.002)
    stages.extend("c", 0.004)
    stages.extend("c", 0.001)
    found = stages.milliseconds()
    assert found["a_ms"] >= 2
    assert (found["b_ms"], found["c_ms"]) == (3.0, 4.0)
    assert found["total_ms"] >= found["a_ms"]
    assert stages.server_timing().startswith("total;dur=")
    assert ", b;dur=3.0, c;dur=4.0" in stages.server_timing()


def test_a_block_that_fails_is_measured_too() -> None:
    stages = Stages()
    with pytest.raises(ValueError, match="x"), stages.measure("a"):
        raise ValueError("x")
    assert "a" in stages.seconds


def test_a_scrape_shows_what_happened(client: httpx2.Client) -> None:
    def count() -> tuple[float, ...]:
        return (
            metric(client, "tandem_requests_total", route="/v1/recommend", status="200"),
            metric(client, "tandem_request_duration_seconds_count", route="/v1/recommend", variant="tiger"),
            metric(client, "tandem_stage_duration_seconds_count", stage="generative", variant="tiger"),
            metric(client, "tandem_stage_duration_seconds_bucket", stage="queue", variant="tiger", le="0.05"),
            metric(client, "tandem_batch_size_count", graph="tiger"),
        )

    request = {"user_id": "u", "history": ["T001"], "variant": "tiger"}
    client.post("/v1/recommend", json=request)
    before = count()
    client.post("/v1/recommend", json=request)
    assert [after - start for after, start in zip(count(), before, strict=True)][:3] == [1, 1, 1]
    exposed = metric(client, "tandem_experiment_exposures_total")
    client.post("/v1/recommend", json=request)  # forced: not part of the experiment
    assert metric(client, "tandem_experiment_exposures_total") == exposed
    assert metric(client, "tandem_model_info", model="tiny", version="1") == 1
    assert metric(client, "tandem_catalogue_items") == 60
    assert metric(client, "tandem_model_load_seconds") > 0
    assert metric(client, "tandem_cache_requests_total", result="local") > 0
    assert metric(client, "process_resident_memory_bytes") > 0


def test_labels_stay_few_whatever_paths_are_asked_for(client: httpx2.Client) -> None:
    for n in range(5):
        client.get(f"/probe-{n}")
    text = client.get("/metrics").text
    assert "probe-" not in text
    assert metric(client, "tandem_requests_total", route="unknown", status="404") >= 5
