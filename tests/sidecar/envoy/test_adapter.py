"""Changes under way: a real Envoy follows what is desired, and no call is harmed."""

import asyncio
import logging
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from msgspec import structs

from amalgam8.model.instance import Address
from amalgam8.model.rule import Affinity
from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import FaultEntry, LimitEntry, PlanDelay, PlanLimit
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.limits import bucket_filter
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.ways import Branch
from tests.sidecar.envoy.support import (
    Backend,
    Client,
    Mesh,
    backends,
    running,
    service,
    simple,
    statuses,
    until,
    when,
)


def versions(v1: Backend, v2: Backend, share: int) -> ServiceRouting:
    """Service ``svc``, ``share`` percent of it on v2."""
    shares = {tag: part for tag, part in (("v1", 100 - share), ("v2", share)) if part}
    peers = {"v1": (v1.peer("v1"),), "v2": (v2.peer("v2"),)}
    return service("svc", [(ALWAYS, shares)], {tag: peers[tag] for tag in shares})


async def hammer(mesh: Mesh, stop: asyncio.Event, path: str = "/svc/") -> Counter[int]:
    found: Counter[int] = Counter()
    async with Client(mesh.port) as client:
        while not stop.is_set():
            found[(await client.ask(path)).status] += 1
    return found


async def test_no_call_fails_while_versions_change(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        await mesh.follow(versions(v1, v2, 0))
        stop = asyncio.Event()
        load = [asyncio.create_task(hammer(mesh, stop)) for _ in range(4)]
        for turn in range(100):
            await mesh.follow(versions(v1, v2, (100, 30, 0, 70)[turn % 4]))
            if turn % 10 == 0:
                name = (await mesh.ask("/svc/")).call.name
                assert name in (("v2",), ("v1", "v2"), ("v1",), ("v1", "v2"))[turn % 4]
        stop.set()
        total = sum([await task for task in load], Counter())
    assert set(total) == {200}
    assert v1.calls
    assert v2.calls


async def test_no_call_fails_while_desires_overtake_each_other(mesh: Mesh) -> None:
    """Names that are always new, and no waiting: each state meets the ones before it half done."""
    async with backends("v1", "v2") as (v1, v2):
        await mesh.follow(simple("svc", v1.peer()))
        stop = asyncio.Event()
        load = [asyncio.create_task(hammer(mesh, stop)) for _ in range(4)]
        for turn in range(300):
            target = Target("svc", (f"t{turn}",))
            mesh.desire(
                ServiceRouting(
                    "svc", (Route((Slice(target),)),), peers={target: ((v1, v2)[turn % 2].peer(),)}
                )
            )
            await asyncio.sleep(0 if turn % 7 else 0.003)
        await mesh.settled()
        stop.set()
        total = sum([await task for task in load], Counter())
    assert set(total) == {200}


async def test_a_call_on_its_way_reaches_the_version_that_it_was_sent_to(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        delay = (FaultEntry(rule="f", delays=(PlanDelay(2.0),)),)
        old = service("svc", [(ALWAYS, {"v1": 1})], {"v1": (v1.peer("v1"),)}, faults=delay)
        await mesh.follow(old)
        call = asyncio.create_task(mesh.ask("/svc/"))
        await asyncio.sleep(0.1)
        await mesh.follow(service("svc", [(ALWAYS, {"v2": 1})], {"v2": (v2.peer("v2"),)}))
        assert (await mesh.ask("/svc/")).call.name == "v2"
        await mesh.follow()
        assert not call.done()
        assert (await call).call.name == "v1"


async def test_endpoints_of_a_lingering_version_follow_its_instances(mesh: Mesh) -> None:
    async with backends("old", "new") as (old, new):
        delay = (FaultEntry(rule="f", delays=(PlanDelay(1.5),)),)
        await mesh.follow(service("svc", [(ALWAYS, {"v1": 1})], {"v1": (old.peer("v1"),)}, faults=delay))
        call = asyncio.create_task(mesh.ask("/svc/"))
        await asyncio.sleep(0.1)
        await mesh.follow(simple("svc", old.peer("v1")))
        moved = Peer("old", Address("127.0.0.1", new.port), ("v1",))
        await mesh.follow(simple("svc", moved))
        await old.stop()
        assert (await call).call.name == "new"


async def test_a_cluster_goes_when_its_time_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, linger=1.0) as mesh, backends("v1", "v2") as (v1, v2):
        await mesh.follow(versions(v1, v2, 0))
        await mesh.follow(versions(v1, v2, 100))
        assert "svc|+v1::" in await clusters(mesh)
        while "svc|+v1::" in await clusters(mesh):  # noqa: ASYNC110 - only Envoy knows
            await asyncio.sleep(0.02)
        assert (await mesh.ask("/svc/")).call.name == "v2"


async def clusters(mesh: Mesh) -> str:
    from amalgam8.sidecar.envoy.admin import fetch

    assert mesh.envoy._admin_socket is not None
    return (await fetch(mesh.envoy._admin_socket, "/clusters")).decode()


def breakable(name: str, backend: Backend, rule: str) -> ServiceRouting:
    target = Target(name)
    routes = (Route((Slice(target),), when(x=rule), rule), Route((Slice(target),)))
    return ServiceRouting(name, routes, peers={target: (backend.peer(),)})


def invalid(routing: ServiceRouting) -> Branch:
    """A renderer with a fault: the weights of a rule of the name ``broken`` are more than Envoy takes."""
    if not any(route.rule == "broken" for route in routing.routes):
        return branch(routing)
    piece = Slice(routing.routes[0].slices[0].target, 2**32 - 1)
    return branch(ServiceRouting(routing.name, (Route((piece, piece), affinity=Affinity(cookie="user")),)))


@pytest.mark.parametrize("bad", [("a",), ("b", "d"), ("a", "b", "c", "d", "e")])
async def test_what_envoy_refuses_leaves_the_rest_working(tmp_path: Path, bad: tuple[str, ...]) -> None:
    names = ("a", "b", "c", "d", "e")
    async with running(tmp_path, render_service=invalid) as mesh, backends("one", "two") as (one, two):
        await mesh.follow(*(breakable(name, one, "good") for name in names))
        confirmed = await mesh.follow(
            *(breakable(name, two, "broken" if name in bad else "fine") for name in names)
        )
        assert tuple(rejection.destination for rejection in confirmed.rejected) == bad
        assert all("weight" in rejection.reason for rejection in confirmed.rejected), confirmed
        for name in names:
            assert (await mesh.ask(f"/{name}/")).status == 200
        confirmed = await mesh.follow(*(breakable(name, two, "good") for name in names))
        assert confirmed.rejected == ()


async def test_a_refused_destination_that_never_worked_is_unavailable(tmp_path: Path) -> None:
    async with running(tmp_path, render_service=invalid) as mesh, backends("one") as (one,):
        confirmed = await mesh.follow(breakable("a", one, "broken"), breakable("b", one, "good"))
        assert [rejection.destination for rejection in confirmed.rejected] == ["a"]
        reply = await mesh.ask("/a/")
        assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=a; rule=")
        assert (await mesh.ask("/b/")).status == 200
        assert (await mesh.ask("/c/")).status == 404


async def test_limits_that_envoy_refuses_are_blamed_on_their_destination(tmp_path: Path) -> None:
    def limited(name: str, backend: Backend, rule: str) -> ServiceRouting:
        limits = (LimitEntry(rule=rule, limits=(PlanLimit(2, per=3600),)),)
        return simple(name, backend.peer(), limits=limits)

    def faulty(routing: ServiceRouting) -> Branch:
        """A renderer with a fault: a limit of the name ``broken`` is by a header that no request can have."""
        found = branch(routing)
        limits = [structs.replace(each, header="a\nb" * ("broken" in each.name)) for each in found.limits]
        return structs.replace(found, limits=tuple(limits))

    apart = next(name for name in map(str, range(100)) if bucket_filter(name) != bucket_filter("bad"))
    beside = next(name for name in map(str, range(100)) if bucket_filter(name) == bucket_filter("bad"))
    async with running(tmp_path, render_service=faulty) as mesh, backends("one") as (one,):
        confirmed = await mesh.follow(
            limited("bad", one, "broken"), limited(apart, one, "l"), limited(beside, one, "l")
        )
        assert [rejection.destination for rejection in confirmed.rejected] == ["bad"]
        assert "HeaderName" in confirmed.rejected[0].reason
        for name in (apart, beside):
            assert await statuses(mesh, 3, f"/{name}/") == {200: 2, 429: 1}
        assert (await mesh.ask("/bad/")).status == 503
        assert (await mesh.follow(limited("bad", one, "l"))).rejected == ()
        assert await statuses(mesh, 3, "/bad/") == {200: 2, 429: 1}


async def test_endpoints_that_envoy_refuses_are_blamed_on_their_destination(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        odd = Peer("odd", Address("127.0.0.1", 70_000))
        confirmed = await mesh.follow(simple("bad", odd), simple("good", one.peer()))
        assert [rejection.destination for rejection in confirmed.rejected] == ["bad"]
        assert "65535" in confirmed.rejected[0].reason
        assert (await mesh.ask("/good/")).status == 200
        assert (await mesh.ask("/bad/")).status == 503
        assert (await mesh.follow(simple("bad", one.peer()), simple("good", one.peer()))).rejected == ()
        assert (await mesh.ask("/bad/")).status == 200


async def test_a_host_name_is_the_host_that_its_instance_sees(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        unknown = Peer("n", Address("db.example", 80))
        local = Peer("l", Address("localhost", one.port), (), ("127.0.0.1",))
        assert (await mesh.follow(simple("svc", unknown, local))).rejected == ()
        for _ in range(4):
            assert (await mesh.ask("/svc/", ("host", "mesh:80"))).call.header("host") == ["localhost"]
        await mesh.follow(simple("svc", one.peer()))
        assert (await mesh.ask("/svc/", ("host", "mesh:80"))).call.header("host") == ["mesh:80"]


async def test_too_many_dice_are_rejected_and_the_last_rules_stay(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        dice = FaultEntry(rule="f", delays=tuple(PlanDelay(2**n, 0.5) for n in range(9)))
        confirmed = await mesh.follow(simple("svc", one.peer(), faults=(dice,)))
        assert [rejection.destination for rejection in confirmed.rejected] == ["svc"]
        assert (await mesh.ask("/svc/")).status == 200


async def test_a_killed_envoy_is_back_with_the_same_configuration(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        first = mesh.envoy.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: mesh.envoy.pid not in (None, first))
        await asyncio.sleep(0)
        for _ in range(500):
            try:
                reply = await mesh.ask("/svc/")
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.01)
                continue
            assert reply.status == 200
            break
        else:
            pytest.fail("it never came back")
        assert b"a8_proxy_restarts_total 1\n" in await mesh.envoy.metrics()
        assert "SIGKILL" in caplog.text
        await mesh.follow(simple("svc", one.peer()), simple("more", one.peer()))
        assert (await mesh.ask("/more/")).status == 200


async def test_no_call_fails_while_instances_come_and_go(mesh: Mesh) -> None:
    async with backends("a", "b", "c") as (a, b, c):
        sets = ((a, b, c), (a,), (a, b), (b, c), (c,), (a, c))
        await mesh.follow(simple("svc", a.peer()))
        stop = asyncio.Event()
        load = [asyncio.create_task(hammer(mesh, stop)) for _ in range(4)]
        for turn in range(60):
            await mesh.follow(simple("svc", *(backend.peer() for backend in sets[turn % len(sets)])))
            await asyncio.sleep(0.002)
        stop.set()
        total = sum([await task for task in load], Counter())
    assert set(total) == {200}


async def test_a_calm_mesh_writes_no_log(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        await mesh.ask("/svc/")
        await mesh.ask("/nope/")
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_same_again_is_confirmed_without_a_word_to_envoy(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        routing = simple("svc", one.peer())
        await mesh.follow(routing)
        mesh.desire(routing)
        await asyncio.sleep(0)  # the only wait: for our own loop
        await mesh.settled()


async def test_a_long_state_folder_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir(mode=0o700)
    async with running(folder) as mesh, backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        assert (await mesh.ask("/svc/")).status == 200
        sockets = mesh.envoy._admin_socket
        assert sockets is not None
        assert len(bytes(sockets)) < 108
        assert sockets.parent.stat().st_mode & 0o777 == 0o700
    assert not sockets.parent.exists()


async def test_sockets_are_private(mesh: Mesh, tmp_path: Path) -> None:
    await mesh.follow()
    for name in ("ads.sock", "admin.sock"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


async def test_weights_are_shares_of_the_whole(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(one, SHARES - 1), Slice(two, 1, 1))
        await mesh.follow(
            ServiceRouting("svc", (Route(slices),), peers={one: (v1.peer(),), two: (v2.peer(),)})
        )
        assert {(await mesh.ask("/svc/")).call.name for _ in range(20)} == {"v1"}
