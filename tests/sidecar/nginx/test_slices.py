"""Shares of a budget through a real nginx: what passes, what it counts, and what a new start knows."""

import json
import os
import signal

from amalgam8.model.errors import Unreachable
from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import LimitEntry, PlanLimit
from amalgam8.sidecar.nginx.push import exchange
from amalgam8.sidecar.proxy import Demand
from tests.conftest import eventually
from tests.sidecar.nginx.support import Mesh, backends, simple

LIMIT = PlanLimit(100, per=3600, budget="l/0")


async def statuses(mesh: Mesh, count: int, *headers: tuple[str, str]) -> dict[int, int]:
    found: dict[int, int] = {}
    for _ in range(count):
        status = (await mesh.ask("/svc/", *headers)).status
        found[status] = found.get(status, 0) + 1
    return found


async def told(mesh: Mesh, shares: dict[str, float]) -> None:
    """Give it shares, and wait until nginx has them."""
    mesh.nginx.slices.set(shares)
    await eventually(lambda: follows(mesh, shares))


async def follows(mesh: Mesh, shares: dict[str, float]) -> bool:
    assert mesh.nginx._places is not None
    _, body = await exchange(mesh.nginx._places.control, "GET", "/figures")
    figures = [json.loads(line) for line in body.splitlines()]
    return all([["share", name], share] in figures for name, share in shares.items())


async def test_a_share_of_a_budget(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await told(mesh, {"l/0": 0.1})
        when = Condition(headers=(("a", "1"),))
        await mesh.follow(
            simple("svc", one.peer(), limits=(LimitEntry(rule="l", match=when, limits=(LIMIT,)),))
        )
        assert await statuses(mesh, 20, ("a", "1")) == {200: 10, 429: 10}
        assert await statuses(mesh, 20) == {200: 20}
        assert await mesh.nginx.demand() == {"l": Demand(20, 10)}


async def test_a_new_share_fills_no_bucket(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await told(mesh, {"l/0": 0.5})
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(LIMIT,)),)))
        assert await statuses(mesh, 60) == {200: 50, 429: 10}
        for share in (0.1, 1.0, 0.3, 0.5):
            await told(mesh, {"l/0": share})
            assert await statuses(mesh, 10) == {429: 10}


async def test_without_a_share_no_call_passes_and_untold_it_is_the_first(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await told(mesh, {"l/0": 0})
        limits = (LimitEntry(rule="l", limits=(LIMIT,)),)
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 5) == {429: 5}
        other = PlanLimit(100, per=3600, budget="other/0")
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="other", limits=(other,)),)))
        assert await statuses(mesh, 20) == {200: 10, 429: 10}


async def test_an_nginx_that_was_started_again_is_told_anew(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await told(mesh, {"l/0": 0.2})
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(LIMIT,)),)))
        before = mesh.nginx.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)

        async def again() -> bool:
            return mesh.nginx.pid not in (None, before) and await follows_soon(mesh)

        await eventually(again, within=20)


async def follows_soon(mesh: Mesh) -> bool:
    try:
        return await follows(mesh, {"l/0": 0.2})
    except Unreachable:
        return False
