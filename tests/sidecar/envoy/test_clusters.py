"""Instances that fail, and the policies about them, through a real Envoy."""

import asyncio
from pathlib import Path

from amalgam8.model.instance import Address
from amalgam8.model.rule import Resilience
from amalgam8.routing.plan import (
    FaultEntry,
    PlanAbort,
    Policy,
)
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from tests.conftest import free_port
from tests.sidecar.envoy.support import (
    Backend,
    Client,
    Mesh,
    backends,
    simple,
    statuses,
    until,
    when,
)


async def test_an_instance_that_refuses_connections_costs_no_call(mesh: Mesh) -> None:
    dead = Peer("dead", Address("127.0.0.1", free_port()))
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer(), dead))
        async with Client(mesh.port) as client:
            for _ in range(40):
                assert (await client.ask("/svc/")).call.name == "one"


async def test_when_the_only_instance_is_back_it_is_used_at_once(mesh: Mesh) -> None:
    backend = Backend("one")
    await backend.start()
    await mesh.follow(simple("svc", backend.peer()))
    assert (await mesh.ask("/svc/")).status == 200
    await backend.stop()
    async with Client(mesh.port) as client:
        for _ in range(10):
            reply = await client.ask("/svc/")
            assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=")
        await backend.start(backend.port)
        for _ in range(10):
            assert (await client.ask("/svc/")).status == 200
    await backend.stop()


async def test_answers_never_leave_an_instance_out(mesh: Mesh) -> None:
    async with backends("bad", "good") as (bad, good):
        await mesh.follow(simple("svc", bad.peer(), good.peer()))
        async with Client(mesh.port) as client:
            for _ in range(40):
                assert (await client.ask("/svc/status-503")).status == 503
        assert bad.calls == good.calls == 20


async def test_a_call_that_may_have_been_processed_is_not_repeated(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        await mesh.follow(simple("svc", one.peer(), two.peer()))
        reply = await mesh.ask("/svc/broken", method="POST", body=b"x")
        assert reply.status == 503
        assert "x-a8-reason" not in reply.headers
        assert one.calls + two.calls == 1


async def test_connections_to_instances_are_kept(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        for _ in range(20):
            await mesh.ask("/svc/")
        assert one.connections == 1


async def test_the_addresses_of_a_name_are_one_instance_and_tried_in_order(mesh: Mesh) -> None:
    async with backends("named", "plain") as (named, plain):
        peer = Peer("n", Address("db.example", named.port), (), ("127.0.0.9", "127.0.0.8", "127.0.0.1"))
        await mesh.follow(simple("svc", peer, plain.peer()))
        assert await statuses(mesh, 40) == {200: 40}
        assert named.calls == plain.calls == 20
        moved = Peer("n", Address("db.example", named.port), (), ("127.0.0.1",))
        await mesh.follow(simple("svc", moved, plain.peer()))
        assert await statuses(mesh, 20) == {200: 20}
        assert named.calls == plain.calls == 30


async def test_policies_count_apart(mesh: Mesh) -> None:
    async with backends("one", "two") as (one, two):
        strict = Target("svc", policy=Policy("random", Resilience(consecutive_errors=2, sleep_window=60)))
        loose = Target("svc")
        peers = (one.peer(), two.peer())
        routes = (Route((Slice(strict),), when(a="1")), Route((Slice(loose),)))
        await mesh.follow(ServiceRouting("svc", routes, peers={strict: peers, loose: peers}))
        one.status = 500
        while one.calls < 2:
            await mesh.ask("/svc/", ("a", "1"))
        one.calls = 0
        await statuses(mesh, 40, "/svc/", ("a", "1"))
        assert one.calls == 0
        await statuses(mesh, 10)
        assert one.calls == 5


async def test_an_injected_fault_leaves_no_instance_out(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        target = Target("svc", policy=Policy("", Resilience(consecutive_errors=1, sleep_window=60)))
        for retries in (None, 2):
            route = Route((Slice(target, retries=retries),))
            fault = (FaultEntry(rule="f", match=when(f="1"), aborts=(PlanAbort(500),)),)
            await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: (one.peer(),)}))
            assert await statuses(mesh, 10, "/svc/", ("f", "1")) == {500: 10}
            assert await statuses(mesh, 3) == {200: 3}


async def test_a_limit_on_waiting_calls_is_a_refusal(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        one.gate = asyncio.Event()
        policy = Policy("", Resilience(max_connections=1, max_pending_requests=1, max_requests=1))
        target = Target("svc", policy=policy)
        await mesh.follow(
            ServiceRouting("svc", (Route((Slice(target, retries=0),)),), peers={target: (one.peer(),)})
        )
        calls = [asyncio.create_task(mesh.ask("/svc/")) for _ in range(6)]
        await until(lambda: sum(call.done() for call in calls) >= 4)
        one.gate.set()
        found = await asyncio.gather(*calls)
        refused = [reply for reply in found if reply.status == 503]
        assert refused
        assert all(reply.headers["x-a8-reason"].startswith("unavailable") for reply in refused)


async def test_tcp_finds_out_who_is_gone_without_a_word(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        one.gate = asyncio.Event()
        call = asyncio.ensure_future(mesh.ask("/svc/x"))
        await until(lambda: _watched(here=mesh.port) and _watched(there=one.port))
        one.gate.set()
        assert (await call).status == 200


def _watched(here: int = 0, there: int = 0) -> bool:
    """Whether there are connections with this local or remote port, and the system asks all if they live."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text(encoding="utf-8").splitlines()[1:]]
    timers = [
        timer.partition(":")[0]
        for _, local, remote, state, _, timer, *_ in rows
        if state == "01" and (_port(local) == here or _port(remote) == there)
    ]
    return bool(timers) and set(timers) == {"02"}


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
