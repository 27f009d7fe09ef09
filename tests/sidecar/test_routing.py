"""The join of both streams: when something is desired, and what."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from amalgam8.clients.instances import SeenInstances
from amalgam8.model.report import PlanStamp, RegistryStamp
from amalgam8.routing.plan import DestinationPlan, PlanBackend, RouteEntry
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.follow import Seen
from amalgam8.sidecar.proxy import Desired, Stamp
from amalgam8.sidecar.routing import Join
from amalgam8.sidecar.view import SeenPlan
from tests.wire import instance

ONE, OTHER = instance("reviews", 1, "v1"), instance("ratings", 2)
PINNED = DestinationPlan(
    routes=(RouteEntry(rule="r1", backends=(PlanBackend("reviews", ("v2",)),), expires=1000.0),)
)
PLAN = SeenPlan({"reviews": PINNED}, PlanStamp(7, "h7"))
INSTANCES = SeenInstances({"reviews": (ONE,), "ratings": (OTHER,)}, RegistryStamp("e", 3))


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def joining(seen: Latest[Seen], clock: Clock | None = None) -> AsyncIterator[Latest[Desired]]:
    desired = Latest(Desired())
    task = asyncio.create_task(Join(seen, desired, clock or Clock()).run())
    await settled()
    try:
        yield desired
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settled() -> None:
    """Let everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_nothing_is_desired_before_both_are_there() -> None:
    for first in (Seen(plan=PLAN), Seen(instances=INSTANCES)):
        seen = Latest(Seen())
        async with joining(seen) as desired:
            seen.set(first)
            await settled()
            assert desired.version == 0
            seen.set(Seen(PLAN, INSTANCES))
            await settled()
            assert desired.version == 1
            assert desired.value.stamp == Stamp(PLAN.stamp, INSTANCES.stamp)
            assert set(desired.value.routing) == {"reviews", "ratings"}


async def test_an_empty_mesh_is_desired_too() -> None:
    seen = Latest(Seen(SeenPlan({}, PlanStamp()), SeenInstances({}, RegistryStamp())))
    async with joining(seen) as desired:
        # nothing differs from what a proxy starts with
        assert desired.value == Desired()


async def test_a_burst_is_joined_and_untouched_services_stay() -> None:
    seen = Latest(Seen(PLAN, INSTANCES))
    async with joining(seen) as desired:
        before = desired.value.routing
        for port in range(10, 20):
            groups = {**INSTANCES.groups, "reviews": (ONE, instance("reviews", port))}
            seen.set(Seen(PLAN, SeenInstances(groups, RegistryStamp("e", port))))
        await settled()
        assert desired.version == 2
        assert desired.value.stamp.registry.revision == 19
        assert desired.value.routing["ratings"] is before["ratings"]


async def test_a_new_stamp_alone_is_passed_on_with_the_same_routing() -> None:
    seen = Latest(Seen(PLAN, INSTANCES))
    async with joining(seen) as desired:
        before = desired.value.routing
        seen.set(msgspec.structs.replace(seen.value, plan=SeenPlan(PLAN.parts, PlanStamp(8, "h7"))))
        await settled()
        assert desired.version == 2
        assert desired.value.routing is before
        assert desired.value.stamp.plan.revision == 8
        seen.set(msgspec.structs.replace(seen.value))
        await settled()
        assert desired.version == 2


async def test_a_rule_lapses_without_anybody_saying_so() -> None:
    clock = Clock()
    clock.now = 999.99
    async with joining(Latest(Seen(PLAN, INSTANCES)), clock) as desired:
        assert desired.value.routing["reviews"].routes[0].rule == "r1"
        clock.now = 1000.0
        async with asyncio.timeout(10):
            await desired.newer(1)
        assert desired.value.routing["reviews"].routes[0].rule == ""
        assert desired.value.stamp == Stamp(PLAN.stamp, INSTANCES.stamp)
