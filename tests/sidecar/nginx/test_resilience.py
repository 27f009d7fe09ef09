"""Limits and ejection that a rule asks for, over all workers."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from amalgam8.model.rule import Resilience
from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import Policy
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.conftest import eventually
from tests.sidecar.nginx.support import Client, Mesh, backends, running, until


def limited(*peers: Peer, **members: Any) -> ServiceRouting:
    target = Target("reviews", policy=Policy("", Resilience(**members)))
    return ServiceRouting("reviews", (Route((Slice(target),)),), peers={target: peers})


async def statuses(mesh: Mesh, count: int) -> Counter[int]:
    return Counter(
        reply.status for reply in await asyncio.gather(*(mesh.ask("/reviews/x") for _ in range(count)))
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("members", "taken"),
    [
        ({"max_requests": 3}, 3),
        ({"max_connections": 2, "max_pending_requests": 1}, 3),
        ({"max_connections": 1, "max_pending_requests": 4}, 5),
        ({"max_connections": 2, "max_pending_requests": 4, "max_requests": 1}, 1),
    ],
    ids=str,
)
async def test_calls_beyond_a_limit_are_refused_and_others_wait(
    tmp_path: Path, workers: int, members: dict[str, int], taken: int
) -> None:
    async with running(tmp_path, workers=workers) as mesh, backends("one") as (one,):
        await mesh.follow(limited(one.peer(), **members))
        one.gate = asyncio.Event()
        calls = [asyncio.create_task(mesh.ask("/reviews/x")) for _ in range(8)]
        await until(lambda: sum(call.done() for call in calls) == 8 - taken)
        await until(lambda: one.calls == min(taken, members.get("max_connections", taken)))
        one.gate.set()
        replies = await asyncio.gather(*calls)
        assert Counter(reply.status for reply in replies) == {200: taken, 503: 8 - taken}
        refused = next(reply for reply in replies if reply.status == 503)
        assert refused.headers["x-a8-reason"] == "unavailable; service=reviews; rule="

        # All that was counted goes, though another worker may hear of it a moment after the caller.
        async def has_gone() -> bool:
            return await statuses(mesh, 1) == {200: 1}

        await eventually(has_gone, what="a call that passes")


async def test_a_call_whose_time_is_over_while_it_waits_ends_with_504(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        target = Target("reviews", policy=Policy("", Resilience(max_connections=1)))
        patient = Route((Slice(target, timeout=60),), Condition((("x-patient", "yes"),)))
        hasty = Route((Slice(target, timeout=0.2),))
        await mesh.follow(ServiceRouting("reviews", (patient, hasty), peers={target: (one.peer(),)}))
        one.gate = asyncio.Event()
        held = asyncio.create_task(mesh.ask("/reviews/x", ("x-patient", "yes")))
        await until(lambda: one.calls == 1)
        assert (await mesh.ask("/reviews/x")).status == 504
        assert one.calls == 1  # it waited for the connection, and never had it
        one.gate.set()
        assert (await held).status == 200


async def test_what_a_worker_that_died_had_counted_goes(tmp_path: Path) -> None:
    async with running(tmp_path) as mesh, backends("one") as (one,):
        await mesh.follow(limited(one.peer(), max_requests=1))
        one.gate = asyncio.Event()
        call = asyncio.create_task(mesh.ask("/reviews/x"))
        await until(lambda: one.calls == 1)
        children = Path(f"/proc/{mesh.nginx.pid}/task/{mesh.nginx.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        await asyncio.wait([call])
        assert call.exception() is not None
        one.gate.set()
        end = time.monotonic() + 5
        while await statuses(mesh, 1) != {200: 1}:
            assert time.monotonic() < end


async def test_a_connection_is_closed_after_so_many_calls(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(limited(one.peer(), max_requests_per_connection=3))
        async with Client(mesh.port) as client:
            for _ in range(9):
                assert (await client.ask("/reviews/x")).status == 200
        assert one.connections == 3


async def test_what_is_left_out_comes_back_when_it_is_looked_at(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        members = {"consecutive_errors": 1, "sleep_window": 0.2, "detection_interval": 0.5}
        await mesh.follow(limited(one.peer(), two.peer(), **members))
        assert (await mesh.ask("/reviews/status-500")).status == 500
        failed = one if one.calls else two
        away, back = time.time(), 0.0
        end = time.monotonic() + 5
        while failed.calls < 2:
            assert time.monotonic() < end
            await mesh.ask("/reviews/x")
            back = time.time()
        assert back - away > 0.19
        assert back // 0.5 > away // 0.5  # not before the next look
