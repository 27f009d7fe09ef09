"""Timeouts and retries through a real Envoy."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from amalgam8.routing.plan import FaultEntry, PlanAbort, PlanDelay
from amalgam8.routing.resolve import SHARES, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.attempts import HEADERS_TIMEOUT
from tests.sidecar.envoy.support import (
    Client,
    Mesh,
    attempts,
    backends,
    running,
    statuses,
    until,
    when,
)


async def test_a_timeout_is_504_without_a_word(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        one.gate = asyncio.Event()
        await mesh.follow(attempts(one.peer(), timeout=0.2, retries=3))
        started = time.monotonic()
        reply = await mesh.ask("/svc/")
        assert time.monotonic() - started < 5
        assert (reply.status, reply.body) == (504, b"")
        assert "x-a8-reason" not in reply.headers
        assert one.calls == 1
        one.gate.set()


async def test_retries_repeat_5xx_and_resets_of_what_may_be_repeated(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        for retries, method, path, calls in (
            (None, "GET", "status-503", 1),
            (0, "GET", "status-503", 1),
            (2, "GET", "status-503", 3),
            (2, "PUT", "status-500", 3),
            (2, "POST", "status-503", 1),
            (2, "PATCH", "status-503", 1),
            (2, "GET", "status-404", 1),
            (3, "GET", "broken", 4),
            (3, "POST", "broken", 1),
            (0, "GET", "broken", 1),
        ):
            one.calls = two.calls = 0
            await mesh.follow(attempts(one.peer(), two.peer(), retries=retries))
            await mesh.ask(f"/svc/{path}", method=method)
            assert one.calls + two.calls == calls, (retries, method, path)
            assert calls == 1 or (one.calls and two.calls)


@pytest.mark.timeout(90)
async def test_the_time_until_an_answer_starts_covers_all_attempts_and_is_no_reason_to_repeat(
    tmp_path: Path,
) -> None:
    """15 s, and injected delays are not counted, with retries as without."""
    records = tmp_path / "access.log"
    async with running(tmp_path, access_log=records) as mesh, backends("one") as (one,):
        one.gate = asyncio.Event()

        async def ask(**more: str) -> tuple[int, float]:
            started = time.monotonic()
            async with Client(mesh.port) as client:
                client.send("/svc/", [*more.items()])
                return (await client.head()).status, time.monotonic() - started

        delayed = FaultEntry(rule="f", match=when(slow="1"), delays=(PlanDelay(HEADERS_TIMEOUT.seconds + 1),))
        await mesh.follow(attempts(one.peer(), retries=2, faults=(delayed,)))
        hung = asyncio.create_task(ask())
        await until(lambda: one.calls == 1)
        held = asyncio.create_task(ask(slow="1"))
        status, seconds = await hung
        assert status == 504
        assert seconds >= HEADERS_TIMEOUT.seconds - 0.1
        assert one.calls == 1
        one.gate.set()
        status, seconds = await held
        assert status == 200
        assert seconds >= HEADERS_TIMEOUT.seconds + 0.9
        assert one.calls == 2


async def test_the_record_has_the_number_of_attempts(tmp_path: Path) -> None:
    records = tmp_path / "access.log"
    async with running(tmp_path, access_log=records) as mesh, backends("one") as (one,):
        fault = FaultEntry(rule="f", match=when(bad="1"), aborts=(PlanAbort(503),))
        await mesh.follow(attempts(one.peer(), retries=2, faults=(fault,)))
        await mesh.ask("/svc/status-200")
        await mesh.ask("/svc/status-503")
        await mesh.ask("/svc/injected", ("bad", "1"))
        await until(lambda: records.exists() and records.read_bytes().count(b"\n") == 3)
        found = [json.loads(line) for line in records.read_bytes().splitlines()]
        assert {record["path"]: record["attempts"] for record in found} == {
            "/svc/status-200": 1,
            "/svc/status-503": 3,
            "/svc/injected": 3,
        }


async def test_retries_go_to_another_instance_of_the_same_version(mesh: Mesh) -> None:
    async with backends("bad", "good", "other") as (bad, good, other):
        bad.status = 503
        v1, v2 = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(v1, SHARES // 2, 0, 0, 1), Slice(v2, SHARES // 2, 1, 0, 1))
        await mesh.follow(
            ServiceRouting(
                "svc",
                (Route(slices),),
                peers={v1: (bad.peer("v1"), good.peer("v1")), v2: (other.peer("v2"),)},
            )
        )
        assert await statuses(mesh, 100) == {200: 100}
        assert bad.calls + good.calls + other.calls > 100
