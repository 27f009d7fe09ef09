"""Delays and aborts: how they are laid out, and what they do in a real Envoy."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import FaultEntry, PlanAbort, PlanDelay
from amalgam8.routing.resolve import SHARES, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.faults import fault_chain
from tests.sidecar.envoy.support import Client, Mesh, backends, simple, when

PROBABILITY = st.sampled_from([0.1, 0.5, 1.0])
DELAYS = st.lists(st.builds(PlanDelay, st.integers(1, 9).map(float), PROBABILITY), max_size=6)
ABORTS = st.lists(st.builds(PlanAbort, st.integers(400, 420), PROBABILITY), max_size=6)

Laid = list[tuple[tuple[float, float] | None, tuple[int, float] | None]]


def laid_out(delays: list[PlanDelay], aborts: list[PlanAbort]) -> Laid:
    found: Laid = []
    for message in fault_chain(delays, aborts):
        fault = fault_pb2.HTTPFault.FromString(message.value)
        delay = abort = None
        if fault.HasField("delay"):
            delay = (fault.delay.fixed_delay.seconds, fault.delay.percentage.numerator / 1e6)
        if fault.HasField("abort"):
            abort = (fault.abort.http_status, fault.abort.percentage.numerator / 1e6)
        found.append((delay, abort))
    return found


@given(DELAYS, ABORTS)
def test_every_delay_stands_before_every_abort_and_nothing_is_lost(
    delays: list[PlanDelay], aborts: list[PlanAbort]
) -> None:
    slots = laid_out(delays, aborts)
    held = [delay for delay, _ in slots if delay]
    ended = [abort for _, abort in slots if abort]
    assert all(delay is None for delay, _ in slots[len(held) :])
    assert all(abort is not None for _, abort in slots[len(held) - 1 :]) or not ended
    assert sum(seconds for seconds, p in held if p == 1) == sum(
        d.seconds for d in delays if d.probability == 1
    )
    assert [(s, p) for s, p in held if p < 1] == [
        (d.seconds, d.probability) for d in delays if d.probability < 1
    ]
    wanted = [(abort.status, abort.probability) for abort in aborts]
    assert ended == wanted[: len(ended)]
    assert len(ended) == len(wanted) or ended[-1][1] == 1


def test_certain_faults_take_one_filter() -> None:
    assert len(fault_chain([PlanDelay(1)] * 30, [PlanAbort(500)] * 30)) == 1


def test_a_tiny_probability_is_not_rounded_to_never() -> None:
    assert laid_out([], [PlanAbort(500, 1e-9)]) == [(None, (500, 1e-6))]


@pytest.fixture
async def timed(mesh: Mesh) -> AsyncIterator[Mesh]:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        yield mesh


async def test_delays_add_up_and_come_before_the_abort(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    fault = FaultEntry(rule="f", delays=(PlanDelay(0.1), PlanDelay(0.2)), aborts=(PlanAbort(418),))
    await timed.follow(simple("svc", *peers, faults=(fault,)))
    started = time.monotonic()
    assert (await timed.ask("/svc/")).status == 418
    assert time.monotonic() - started >= 0.29  # Envoy reads its clock once per turn of its loop


async def test_each_abort_throws_its_own_dice(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    fault = FaultEntry(rule="f", aborts=(PlanAbort(500, 0.5), PlanAbort(501, 0.5), PlanAbort(502, 0.5)))
    await timed.follow(simple("svc", *peers, faults=(fault,)))
    found: Counter[int] = Counter()
    async with Client(timed.port) as client:
        for _ in range(1600):
            found[(await client.ask("/svc/")).status] += 1
    for status, expected in ((500, 800), (501, 400), (502, 200), (200, 200)):
        assert abs(found[status] - expected) < 6 * (expected * (1 - expected / 1600)) ** 0.5, found


async def test_faults_meet_the_version_that_carries_the_tags_only(mesh: Mesh) -> None:
    async with backends("v1", "v2") as (v1, v2):
        one, two = Target("svc", ("v1",)), Target("svc", ("v2",))
        fault = FaultEntry(rule="f", aborts=(PlanAbort(599, tags=("v2",)),))
        routing = ServiceRouting(
            "svc",
            (Route((Slice(one, SHARES // 2), Slice(two, SHARES // 2, 1))),),
            faults=(fault,),
            peers={one: (v1.peer("v1"),), two: (v2.peer("v2"),)},
        )
        await mesh.follow(routing)
        async with Client(mesh.port) as client:
            replies = [await client.ask("/svc/") for _ in range(200)]
        assert {reply.call.name for reply in replies if reply.status == 200} == {"v1"}
        assert 50 < sum(reply.status == 599 for reply in replies) < 150
        assert v2.calls == 0


async def test_faults_have_conditions_of_their_own(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    faults = (
        FaultEntry(rule="f1", match=when(a="1"), aborts=(PlanAbort(501),)),
        FaultEntry(rule="f2", match=when(b="1"), aborts=(PlanAbort(502),)),
        FaultEntry(rule="f3", match=when(c="1")),
        FaultEntry(rule="f4", match=when(c="1"), aborts=(PlanAbort(504),)),
    )
    await timed.follow(simple("svc", *peers, faults=faults))
    assert (await timed.ask("/svc/", ("a", "1"), ("b", "1"))).status == 501
    assert (await timed.ask("/svc/", ("b", "1"))).status == 502
    assert (await timed.ask("/svc/", ("c", "1"))).status == 200
    assert (await timed.ask("/svc/")).status == 200


async def test_an_abort_with_every_status(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    for status in (200, 204, 301, 404, 429, 503, 599):
        fault = FaultEntry(rule="f", match=ALWAYS, aborts=(PlanAbort(status),))
        await timed.follow(simple("svc", *peers, faults=(fault,)))
        assert (await timed.ask("/svc/")).status == status


async def test_a_delayed_call_does_not_hold_up_others(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    fault = FaultEntry(rule="f", match=when(slow="1"), delays=(PlanDelay(1.5),))
    await timed.follow(simple("svc", *peers, faults=(fault,)))
    slow = asyncio.create_task(timed.ask("/svc/", ("slow", "1")))
    for _ in range(10):
        assert (await timed.ask("/svc/")).status == 200
    assert not slow.done()
    assert (await slow).status == 200
