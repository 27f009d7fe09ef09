"""Faults that act behind retries and timeouts, through a real Envoy."""

import asyncio
import time
from collections import Counter

from amalgam8.model.rule import Affinity
from amalgam8.routing.plan import (
    FaultEntry,
    PlanAbort,
    PlanDelay,
)
from amalgam8.routing.resolve import SHARES, Peer, Route, ServiceRouting, Slice, Target
from tests.sidecar.envoy.support import (
    Client,
    Mesh,
    attempts,
    backends,
    faulty,
    statuses,
    when,
)


async def test_an_injected_abort_is_retried_and_each_attempt_has_its_own_dice(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(attempts(one.peer(), retries=3, **faulty(aborts=(PlanAbort(503, 0.5),))))
        found = await statuses(mesh, 800)
        assert abs(found[200] - 750) < 6 * (800 * 15 / 256) ** 0.5  # 1 - 0.5 ** 4
        assert found[200] + found[503] == 800
        found = await statuses(mesh, 300, method="POST")
        assert abs(found[200] - 150) < 6 * (300 / 4) ** 0.5
        reply = await mesh.ask("/svc/x?y", ("x-a8-next", "forged"), ("x-a8-fault", "forged"))
        while reply.status != 200:
            reply = await mesh.ask("/svc/x?y")
        assert reply.call.path == "/x?y"
        assert not [name for name, _ in reply.call.headers if name.startswith("x-a8")]
        assert reply.call.header("x-envoy-original-path") == ["/svc/x?y"]
        assert {name for name in reply.headers if name.startswith(("x-a8", "x-envoy"))} == {
            "x-envoy-upstream-service-time"
        }


async def test_an_injected_delay_counts_against_the_timeout(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        fault = FaultEntry(rule="f", match=when(slow="1"), delays=(PlanDelay(2.0),))
        await mesh.follow(attempts(one.peer(), timeout=0.3, faults=(fault,)))
        started = time.monotonic()
        reply = await mesh.ask("/svc/", ("slow", "1"))
        assert (reply.status, reply.body) == (504, b"")
        assert 0.25 < time.monotonic() - started < 1.9
        assert one.calls == 0
        assert (await mesh.ask("/svc/")).status == 200


async def test_tagged_faults_meet_their_version_only_in_the_second_pass(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(one, SHARES // 2, 0, 0, 1), Slice(two, SHARES // 2, 1, 0, 1))
        faults = (FaultEntry(rule="f", aborts=(PlanAbort(599, tags=("v2",)),)),)
        await mesh.follow(
            ServiceRouting(
                "svc", (Route(slices),), faults=faults, peers={one: (v1.peer("v1"),), two: (v2.peer("v2"),)}
            )
        )
        found = await statuses(mesh, 200)
        assert found[200] == v1.calls
        assert found[200] + found[599] == 200
        assert 50 < found[599] < 150
        assert v2.calls == 0


async def test_no_instance_behind_the_second_pass_is_told_with_the_reason(mesh: Mesh) -> None:
    target = Target("svc")
    fault = (FaultEntry(rule="f", delays=(PlanDelay(0.01),)),)
    route = Route((Slice(target, timeout=3.0),), rule="r7")
    await mesh.follow(ServiceRouting("svc", (route,), faults=fault, peers={target: ()}))
    reply = await mesh.ask("/svc/")
    assert (reply.status, reply.headers["x-a8-reason"]) == (503, "unavailable; service=svc; rule=r7")


async def test_versions_of_one_route_have_their_own_timeouts_and_retries(mesh: Mesh) -> None:
    async with backends("slow", "bad") as (slow, bad):
        slow.gate, bad.status = asyncio.Event(), 503
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        slices = (Slice(one, SHARES // 2, 0, 0.1, 0), Slice(two, SHARES // 2, 1, 0, 2))
        peers: dict[Target, tuple[Peer, ...]] = {one: (slow.peer("v1"),), two: (bad.peer("v2"),)}
        await mesh.follow(ServiceRouting("svc", (Route(slices, affinity=Affinity(header="u")),), peers=peers))
        found = await asyncio.gather(*(mesh.ask("/svc/", ("u", str(user))) for user in range(40)))
        count = Counter(reply.status for reply in found)
        assert count.keys() == {503, 504}
        assert bad.calls == 3 * count[503]
        fault = (
            FaultEntry(
                rule="f",
                match=when(f="1"),
                aborts=(PlanAbort(418, tags=("v1",)), PlanAbort(500, tags=("v2",))),
            ),
        )
        bad.calls = 0
        await mesh.follow(
            ServiceRouting("svc", (Route(slices, affinity=Affinity(header="u")),), peers=peers, faults=fault)
        )
        found = await asyncio.gather(*(mesh.ask("/svc/", ("u", str(user)), ("f", "1")) for user in range(40)))
        assert Counter(reply.status for reply in found) == {418: count[504], 500: count[503]}
        assert bad.calls == 0
        slow.gate.set()


async def test_no_call_fails_while_faults_and_retries_come_and_go(mesh: Mesh) -> None:
    """The second pass appears, changes its names and goes, under calls that are on their way through it."""
    async with backends("one", "two") as (one, two):
        await mesh.follow(attempts(one.peer(), two.peer()))
        stop = asyncio.Event()

        async def hammer() -> Counter[int]:
            found: Counter[int] = Counter()
            async with Client(mesh.port) as client:
                while not stop.is_set():
                    found[(await client.ask("/svc/")).status] += 1
            return found

        load = [asyncio.create_task(hammer()) for _ in range(4)]
        for turn in range(120):
            delay = PlanDelay(0.001 + turn % 7 / 1000)
            more = faulty(delays=(delay,)) if turn % 3 else {}
            mesh.desire(
                attempts(one.peer(), two.peer(), retries=turn % 2 or None, timeout=5.0 * (turn % 4), **more)
            )
            if turn % 5:
                await mesh.settled()
        await mesh.settled()
        stop.set()
        total = sum([await task for task in load], Counter())
    assert set(total) == {200}
