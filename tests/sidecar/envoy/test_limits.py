"""Rate limits through a real Envoy."""

import time

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import (
    LimitEntry,
    PlanLimit,
)
from amalgam8.sidecar.envoy.admin import fetch
from amalgam8.sidecar.envoy.limits import bucket_filter
from amalgam8.sidecar.envoy.slices import cost
from amalgam8.sidecar.proxy import Demand
from tests.conftest import eventually
from tests.sidecar.envoy.support import (
    Mesh,
    backends,
    service,
    simple,
    statuses,
    when,
)


async def test_limits_answer_429_and_say_when_to_come_back(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        limits = (
            LimitEntry(rule="l1", match=when(a="1"), limits=(PlanLimit(2, per=3600, burst=1),)),
            LimitEntry(rule="l2", match=when(b="1"), limits=(PlanLimit(1, per=3600),)),
        )
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 6, "/svc/", ("a", "1"), ("b", "1")) == {200: 3, 429: 3}
        assert await statuses(mesh, 2, "/svc/", ("b", "1")) == {200: 1, 429: 1}
        assert await statuses(mesh, 20) == {200: 20}
        reply = await mesh.ask("/svc/", ("a", "1"))
        assert reply.headers["x-a8-reason"] == "limited; service=svc; rule=l1"
        assert reply.json == {"error": "too many calls", "service": "svc", "rule": "l1"}
        assert int(reply.headers["retry-after"]) == 1800
        assert "x-ratelimit-limit" not in reply.headers


async def test_each_value_of_a_header_has_a_bucket(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        limits = (
            LimitEntry(rule="l", limits=(PlanLimit(2, per=3600, header="x-user"), PlanLimit(70, per=3600))),
        )
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 3, "/svc/", ("x-user", "a")) == {200: 2, 429: 1}
        assert await statuses(mesh, 3, "/svc/", ("x-user", "b")) == {200: 2, 429: 1}
        assert await statuses(mesh, 3) == {200: 2, 429: 1}


async def test_a_limit_is_one_for_all_ways_to_a_service(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        limits = (LimitEntry(rule="l", limits=(PlanLimit(4, per=3600),)),)
        routes = [(when(a="1"), {"one": 1}), (ALWAYS, {"two": 1})]
        peers = {"one": (one.peer(),), "two": (two.peer(),)}
        await mesh.follow(
            service("svc", routes, peers, limits=limits),
            simple("other", one.peer(), limits=(LimitEntry(rule="l", limits=(PlanLimit(1, per=3600),)),)),
        )
        ways: list[tuple[str, list[tuple[str, str]]]] = [
            ("/svc/", []),
            ("/svc/", [("a", "1")]),
            ("/", [("host", "svc")]),
            ("/svc?x", [("a", "1")]),
            ("/svc/", []),
            ("/", [("host", "svc"), ("a", "1")]),
        ]
        found = [(await mesh.ask(path, *headers)).status for path, headers in ways]
        assert found == [200, 200, 200, 200, 429, 429]
        assert (await mesh.ask("/other/")).status == 200


async def test_a_limit_refills_without_steps(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(PlanLimit(50),)),)))
        await statuses(mesh, 60)
        started = time.monotonic()
        passed = (await statuses(mesh, 400))[200]
        assert passed <= (time.monotonic() - started) * 50 + 52


async def shared(mesh: Mesh, share: float) -> None:
    """Give it a share, and wait until Envoy follows."""
    mesh.envoy.slices.set({"l/0": share})

    async def follows() -> bool:
        assert mesh.envoy._admin_socket is not None
        dump = await fetch(mesh.envoy._admin_socket, "/config_dump?resource=ecds_filters")
        return f'"{cost(share)}"'.encode() in dump

    await eventually(follows)


async def test_a_share_of_a_budget(mesh: Mesh) -> None:
    limit = PlanLimit(100, per=3600, budget="l/0")
    async with backends("one") as (one,):
        mesh.envoy.slices.set({"l/0": 0.1})
        entries = (LimitEntry(rule="l", match=when(a="1"), limits=(limit,)),)
        await mesh.follow(simple("svc", one.peer(), limits=entries))
        assert await statuses(mesh, 20, "/svc/", ("a", "1")) == {200: 10, 429: 10}
        assert await statuses(mesh, 20) == {200: 20}
        assert await mesh.envoy.demand() == {"l": Demand(20, 10)}


async def test_a_new_share_fills_no_bucket(mesh: Mesh) -> None:
    limit = PlanLimit(100, per=3600, budget="l/0")
    async with backends("one") as (one,):
        mesh.envoy.slices.set({"l/0": 0.5})
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(limit,)),)))
        assert await statuses(mesh, 60) == {200: 50, 429: 10}
        for share in (0.1, 1.0, 0.3, 0.5):
            await shared(mesh, share)
            assert await statuses(mesh, 10) == {429: 10}


async def test_without_a_share_no_call_passes(mesh: Mesh) -> None:
    limit = PlanLimit(100, per=3600, budget="l/0")
    async with backends("one") as (one,):
        mesh.envoy.slices.set({"l/0": 0})
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(limit,)),)))
        assert await statuses(mesh, 10) == {429: 10}


async def test_a_share_that_nobody_told(mesh: Mesh) -> None:
    limit = PlanLimit(100, per=3600, budget="l/0")
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), limits=(LimitEntry(rule="l", limits=(limit,)),)))
        assert await statuses(mesh, 30) == {200: 10, 429: 20}


async def test_a_bucket_outlives_changes_of_everything_but_its_limits(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        limits = (LimitEntry(rule="l", limits=(PlanLimit(4, per=3600),)),)
        await mesh.follow(simple("svc", one.peer(), limits=limits))
        assert await statuses(mesh, 3) == {200: 3}
        rerouted = service(
            "svc",
            [(when(a="1"), {"two": 1}), (ALWAYS, {"one": 1})],
            {"one": (one.peer(),), "two": (two.peer(),)},
            limits=limits,
        )
        await mesh.follow(rerouted, simple("another", two.peer()))
        assert await statuses(mesh, 3) == {200: 1, 429: 2}
        apart = next(name for name in map(str, range(100)) if bucket_filter(name) != bucket_filter("svc"))
        await mesh.follow(rerouted, simple(apart, two.peer(), limits=limits))
        assert await statuses(mesh, 2) == {429: 2}
        assert await statuses(mesh, 6, f"/{apart}/") == {200: 4, 429: 2}
        more = (LimitEntry(rule="l", limits=(PlanLimit(5, per=3600),)),)
        await mesh.follow(simple("svc", one.peer(), limits=more))
        assert await statuses(mesh, 7) == {200: 5, 429: 2}
