"""Timeouts and retries through a real Envoy."""

import asyncio
import time

from amalgam8.routing.resolve import SHARES, Route, ServiceRouting, Slice, Target
from tests.sidecar.envoy.support import (
    Mesh,
    attempts,
    backends,
    statuses,
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
