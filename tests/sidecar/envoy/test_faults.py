"""Delays and aborts: how they are laid out, and what they do in a real Envoy."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import product

import pytest
from envoy.extensions.filters.http.fault.v3 import fault_pb2
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import FaultEntry, PlanAbort, PlanDelay
from amalgam8.routing.resolve import SHARES, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.envoy.faults import Unrenderable, abort_chain, delay_chain
from tests.sidecar.envoy.support import Client, Mesh, attempts, backends, simple, statuses, when

PROBABILITY = st.sampled_from([0.1, 0.5, 1.0])
DELAYS = st.lists(st.builds(PlanDelay, st.integers(1, 9).map(float), PROBABILITY), max_size=6)
ABORTS = st.lists(st.builds(PlanAbort, st.integers(400, 420), PROBABILITY), max_size=6)


def held(delays: list[PlanDelay]) -> list[tuple[float, float]]:
    """Seconds and probability of each filter."""
    found = [fault_pb2.HTTPFault.FromString(message.value).delay for message in delay_chain(delays)]
    return [
        (each.fixed_delay.ToTimedelta().total_seconds(), each.percentage.numerator / 1e6) for each in found
    ]


def ended(aborts: list[PlanAbort]) -> list[tuple[int, float]]:
    """Status and probability of each filter."""
    found = [fault_pb2.HTTPFault.FromString(message.value).abort for message in abort_chain(aborts)]
    return [(each.http_status, each.percentage.numerator / 1e6) for each in found]


@given(DELAYS)
def test_the_sums_of_delays_have_the_chances_of_independent_dice(delays: list[PlanDelay]) -> None:
    left, shares = 1.0, {}
    for seconds, chance in held(delays):
        shares[seconds] = left * chance
        left *= 1 - chance
    wanted: Counter[float] = Counter()
    for fallen in product((True, False), repeat=len(delays)):
        chance, total = 1.0, 0.0
        for delay, falls in zip(delays, fallen, strict=True):
            chance *= delay.probability if falls else 1 - delay.probability
            total += delay.seconds if falls else 0
        wanted[total] += chance  # type: ignore[assignment]
    wanted = Counter({total: chance for total, chance in wanted.items() if chance})
    assert {**shares, 0.0: left} == pytest.approx({0.0: 0.0, **wanted}, abs=1e-5)


@given(ABORTS)
def test_no_abort_is_lost_before_a_certain_one(aborts: list[PlanAbort]) -> None:
    wanted = [(abort.status, abort.probability) for abort in aborts]
    found = ended(aborts)
    assert found == wanted[: len(found)]
    assert len(found) == len(wanted) or found[-1][1] == 1


def test_certain_faults_take_one_filter() -> None:
    assert held([PlanDelay(1)] * 30) == [(30, 1)]
    assert ended([PlanAbort(500)] * 30) == [(500, 1)]


def test_delays_of_too_many_sums_are_refused() -> None:
    with pytest.raises(Unrenderable, match="more than 256 different sums"):
        delay_chain([PlanDelay(2.0**number, 0.5) for number in range(9)])


def test_a_tiny_probability_is_not_rounded_to_never() -> None:
    assert ended([PlanAbort(500, 1e-9)]) == [(500, 1e-6)]


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


async def test_dice_after_a_delay_are_thrown(timed: Mesh) -> None:
    peers = next(iter(timed.routing["svc"].peers.values()))
    delays = (PlanDelay(0.001, 0.5), PlanDelay(0.002, 0.5))
    fault = FaultEntry(rule="f", delays=delays, aborts=(PlanAbort(418, 0.5), PlanAbort(419)))
    for timeout in (0, 5.0):
        await timed.follow(attempts(*peers, timeout=timeout, faults=(fault,)))
        found = await statuses(timed, 200)
        assert found.keys() == {418, 419}
        assert 50 < found[418] < 150


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
