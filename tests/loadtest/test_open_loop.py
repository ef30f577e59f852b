"""The open loop against a service that is obviously slow, and the whole program against a real one."""

import asyncio
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.reporting import percentiles
from loadtest import open_loop
from loadtest.client import Pool, encode
from tests.service.servers import Served

HISTORIES = [["T001", "T002"], ["T003"]]


async def test_a_service_that_answers_one_at_a_time_cannot_hide_its_queue() -> None:
    turn, service_s = asyncio.Lock(), 0.02

    async def ask(number: int) -> bool:
        async with turn:
            await asyncio.sleep(service_s)
        return True

    found = await open_loop.open_loop(ask, rate=200.0, seconds=0.25)
    # 50 requests come in 0.25 s and take at least 1 s: request i waits for those before it, less what it came later.
    waits = [(number + 1) * service_s - number / 200.0 for number in range(50)]
    assert found["failed"] == 0
    assert found["p50_ms"] >= 1e3 * sorted(waits)[24]
    assert found["p99_ms"] >= 1e3 * waits[48]
    assert found["answered"] <= 1 / service_s
    assert found["offered"] == 200.0


async def test_latency_counts_from_when_a_request_was_due() -> None:
    async def ask(number: int) -> bool:
        if number == 0:
            import time

            time.sleep(0.2)  # the client itself is held up: the others leave late
        return True

    found = await open_loop.open_loop(ask, rate=1000.0, seconds=0.05)
    assert found["p50_ms"] > 100


async def test_failures_are_counted_and_have_no_latency() -> None:
    async def ask(number: int) -> bool:
        return number % 5 == 0

    found = await open_loop.open_loop(ask, rate=1000.0, seconds=0.05)
    assert found["failed"] == 40
    assert "p99_ms" not in percentiles([])


async def test_the_client_reads_real_answers_and_problems(server: Served) -> None:
    pool = Pool(str(server.client.base_url))
    status, body = await pool.post(encode("/v1/recommend", b'{"history": ["T001"]}'))
    assert (status, b'"items"' in body) == (200, True)
    assert (await pool.post(encode("/v1/recommend", b"{")))[0] == 400
    assert not await pool.succeeds(encode("/v1/recommend", b"{"))
    assert await pool.succeeds(encode("/v1/recommend", b'{"k": 3}'))
    pool.close()
    nobody = Pool("http://127.0.0.1:1")
    assert not await nobody.succeeds(b"")


def test_both_variants_are_swept_and_drawn(
    server: Served, adaptive_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_loop, "FRACTIONS", (0.2, 0.7))
    results = open_loop.measure(str(server.client.base_url), adaptive_path, 0.2, Console(quiet=True))
    for found in results["variants"].values():
        assert found["saturation"] > 0
        assert [rate["load"] for rate in found["rates"]] == [0.2, 0.7]
        assert all(rate["failed"] == 0 and rate["p99_ms"] >= rate["p50_ms"] for rate in found["rates"])
        assert found["p99_over_p50_at_70_percent"] >= 1
    open_loop.plot(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
