"""Following both streams over real sockets: reconnects, lost memories, and what is logged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from amalgam8.clients import watch
from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.model.caller import Caller
from amalgam8.routing.plan import DestinationPlan, PlanBackend, RouteEntry
from amalgam8.sidecar import follow
from amalgam8.sidecar.follow import Follower
from tests.conftest import eventually, free_port
from tests.wire import ControllerStandIn, Instances, Parts, RegistryStandIn, instance, served

ONE, TWO = instance("reviews", 1), instance("reviews", 2)
PART = DestinationPlan(routes=(RouteEntry(rule="r1", backends=(PlanBackend("reviews", ("v1",)),)),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKOFF_START", 0.002)
    monkeypatch.setattr(watch, "BACKOFF_LIMIT", 0.02)
    monkeypatch.setattr(follow, "REFUSED_PAUSE", 0.01)


@contextlib.asynccontextmanager
async def following(registry_port: int = 0, controller_port: int = 0) -> AsyncIterator[Follower]:
    follower = Follower()
    registry, controller = (Http(f"http://127.0.0.1:{port}") for port in (registry_port, controller_port))
    tasks = []
    if registry_port:
        tasks.append(asyncio.create_task(follower.follow_registry(RegistryClient(registry).watch())))
    if controller_port:
        plan = ControllerClient(controller).watch_plan("the-id", Caller("web", ("v1", "v2")))
        tasks.append(asyncio.create_task(follower.follow_controller(plan)))
    try:
        yield follower
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await registry.close()
        await controller.close()


async def until(check: Callable[[], object], what: str = "") -> None:
    async def found() -> bool:
        return bool(check())

    await eventually(found, what=what)


def ports(follower: Follower) -> set[str]:
    seen = follower.seen.value.instances
    return (
        {one.endpoint.value.rpartition(":")[2] for group in seen.groups.values() for one in group}
        if seen
        else set()
    )


async def test_snapshots_and_deltas_arrive_in_the_cell() -> None:
    registry, controller = RegistryStandIn(Instances("e", [ONE])), ControllerStandIn()
    async with (
        served(registry.app) as one,
        served(controller.app) as other,
        following(one, other) as follower,
    ):
        await until(lambda: follower.seen.value.plan and follower.seen.value.instances)
        assert ports(follower) == {"1"}
        assert follower.key.value == "the-key"
        assert controller.asked == [{"id": "the-id", "service": "web", "tags": "v1,v2", "protocol": "1"}]
        registry.told.change(TWO)
        controller.told.change({"reviews": PART})
        await until(lambda: ports(follower) == {"1", "2"})
        await until(lambda: (plan := follower.seen.value.plan) and plan.parts)
        plan, instances = follower.seen.value.plan, follower.seen.value.instances
        assert plan
        assert instances
        assert plan.parts == {"reviews": PART}
        assert (plan.stamp.revision, plan.stamp.hash) == (2, "hash-2")
        assert (instances.stamp.epoch, instances.stamp.revision) == ("e", 2)
        assert follower.registry.age == 0.0


async def test_a_registry_that_lost_its_memory_empties_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "amalgam8")
    port = free_port()
    async with following(port) as follower:
        await until(lambda: follower.registry.connected is False)
        async with served(RegistryStandIn(Instances("a", [ONE])).app, port):
            await until(lambda: ports(follower) == {"1"})
            assert follower.registry_epoch.value == "a"
        await until(lambda: not follower.registry.connected)
        assert ports(follower) == {"1"}
        assert follower.registry.lost == 1
        registry = RegistryStandIn(Instances("b"))
        async with served(registry.app, port):
            await until(lambda: follower.registry.connected)
            await until(lambda: (seen := follower.seen.value.instances) and seen.stamp.epoch == "b")
            assert registry.resumed[0] == "a.1"
            assert ports(follower) == {"1"}
            registry.told.change(TWO)
            await until(lambda: ports(follower) == {"1", "2"})
    messages = [record.message for record in caplog.records]
    assert messages[:4] == [
        "not there yet, waiting for it",
        "following",
        "lost, going on with what is known",
        "following",
    ]


async def test_what_does_not_come_back_goes_when_its_lease_is_over() -> None:
    port = free_port()
    async with following(port) as follower:
        async with served(RegistryStandIn(Instances("a", [instance("reviews", 1, ttl=1), TWO])).app, port):
            await until(lambda: ports(follower) == {"1", "2"})
        async with served(RegistryStandIn(Instances("b")).app, port):
            await until(lambda: ports(follower) == {"2"})
            assert follower.instances.held == 1


async def test_a_stream_resumes_where_it_was() -> None:
    port = free_port()
    registry = RegistryStandIn(Instances("a", [ONE]))
    async with following(port) as follower:
        async with served(registry.app, port):
            await until(lambda: ports(follower) == {"1"})
            registry.told.change(TWO)
            await until(lambda: ports(follower) == {"1", "2"})
        registry.told.change(removed=[ONE])
        async with served(registry.app, port):
            await until(lambda: ports(follower) == {"2"})
            assert registry.resumed[-1] == "a.2"


async def test_a_controller_without_its_rules_replaces_the_plan() -> None:
    port = free_port()
    async with following(controller_port=port) as follower:
        async with served(ControllerStandIn(Parts("a", {"reviews": PART})).app, port):
            await until(lambda: follower.seen.value.plan)
        assert follower.seen.value.plan
        assert follower.seen.value.plan.parts
        async with served(ControllerStandIn(Parts("b")).app, port):
            await until(lambda: (plan := follower.seen.value.plan) and not plan.parts)


async def test_a_server_of_another_protocol_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    registry = RegistryStandIn(Instances("a", [ONE]))
    registry.told.protocol = 2
    async with served(registry.app) as port, following(port) as follower:
        await until(lambda: len(registry.resumed) >= 3)
        assert follower.registry.connected is False
        assert "this program is older, upgrade it" in follower.registry.reason
        assert follower.seen.value.instances is None
        registry.told.protocol = 1
        await until(lambda: ports(follower) == {"1"})
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
