"""Self-preservation: the decision alone, and a memory store in virtual time whose instances fall silent."""

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.model.instance import Endpoint
from amalgam8.model.stream import InstanceDelta
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.preservation import LIMIT, Preservation, Step, endangered
from tests.conftest import eventually
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit, running
from tests.registry.test_main import HERE, PROGRAM, end
from tests.valkey import PASSWORD, valkey


@pytest.mark.parametrize(
    ("late", "total", "danger"),
    [(5, 6, True), (4, 4, False), (5, 33, True), (5, 34, False), (150, 1000, True), (149, 1000, False)],
)
def test_the_mark(late: int, total: int, danger: bool) -> None:
    assert endangered(late, total) is danger


def step(one: Preservation, now: float, lapsed: int, late: int) -> Step:
    return one.step(now, lapsed=lapsed, late=late, total=100, period=10)


def test_it_begins_with_a_lapse_and_ends_with_renewals() -> None:
    one = Preservation(600)
    assert step(one, 0, lapsed=0, late=100) == Step(False)
    assert step(one, 1, lapsed=1, late=100) == Step(True, "frozen")
    assert step(one, 2, lapsed=1, late=15) == Step(True)
    # Those that are still silent have a period more to follow the others.
    assert step(one, 3, lapsed=9, late=14) == Step(True)
    assert step(one, 12.9, lapsed=9, late=14) == Step(True)
    assert step(one, 13, lapsed=9, late=14) == Step(False, "recovered")
    assert step(one, 14, lapsed=1, late=14) == Step(False)


def test_a_calm_that_does_not_last_ends_nothing() -> None:
    one = Preservation(600)
    assert step(one, 1, lapsed=1, late=100).hold
    assert step(one, 2, lapsed=1, late=1).hold
    assert step(one, 9, lapsed=1, late=20).hold
    assert step(one, 13, lapsed=1, late=1).hold
    assert step(one, 22.9, lapsed=1, late=1).hold
    assert step(one, 23, lapsed=1, late=1) == Step(False, "recovered")


def test_where_all_are_back_nobody_is_waited_for() -> None:
    one = Preservation(600)
    assert step(one, 1, lapsed=1, late=100).hold
    assert step(one, 2, lapsed=0, late=0) == Step(False, "recovered")


def test_it_ends_after_its_limit() -> None:
    one = Preservation(600)
    assert step(one, 1, lapsed=1, late=100).hold
    assert step(one, 600.9, lapsed=100, late=100) == Step(True)
    assert step(one, 601, lapsed=100, late=100) == Step(False, "ran out")


def test_without_a_limit_it_never_begins() -> None:
    assert step(Preservation(0), 1, lapsed=100, late=100) == Step(False)


async def populated(kit: MemoryKit, number: int, tenant: str = "t") -> tuple[MemoryStore, list[str]]:
    """A store whose instances renew in turns, as sidecars do: each every 10 s, of a ttl of 30 s."""
    store = kit.make(freeze_limit=LIMIT)
    for port in range(1, number + 1):
        await store.register(tenant, instance(port=port))
    return store, [instance(port=port).id for port in range(1, number + 1)]


async def live(kit: MemoryKit, store: MemoryStore, ids: list[str], seconds: float, tenant: str = "t") -> int:
    """Let time pass while these renew every 10 s, each at its own moment; how many leases ended."""
    ended, pace = 0, 0.25
    for tick in range(int(seconds / pace)):
        kit.advance(pace)
        for number, identity in enumerate(ids):
            if tick % 40 == number % 40:
                await store.renew(tenant, identity)
        ended += await store.expire()
    return ended


@pytest.mark.parametrize(("number", "silent"), [(1000, 300), (6, 5), (40, 6)])
async def test_many_that_fall_silent_at_once_are_kept(number: int, silent: int) -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, number)
    assert await live(kit, store, ids, 20) == 0
    revision = store.view("t").feed.revision
    assert await live(kit, store, ids[silent:], 60) == 0
    assert len(store.view("t")) == number
    assert store.view("t").feed.revision == revision, "watchers would see a removal"
    told = [event for event in kit.happened if event.what == "frozen"]
    assert [(event.tenant, event.service) for event in told] == [("t", "")]
    assert f"of {number} leases are late" in told[0].reason
    assert kit.history.frozen == {"t"}
    # They come back: nothing was lost, and expiry goes on.
    assert await live(kit, store, ids, 60) == 0
    assert [event.what for event in kit.happened if event.what in ("frozen", "thawed")] == [
        "frozen",
        "thawed",
    ]
    assert kit.history.frozen == set()
    assert await live(kit, store, ids[1:], 40) == 1


@pytest.mark.parametrize(("number", "silent"), [(1000, 1), (1000, 149), (6, 4), (1, 1), (4, 4)])
async def test_few_expire_on_time(number: int, silent: int) -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, number)
    await live(kit, store, ids, 20)
    assert await live(kit, store, ids[silent:], 20) == 0
    assert await live(kit, store, ids[silent:], 10.5) == silent
    assert all(event.what != "frozen" for event in kit.happened)


async def test_what_was_held_to_the_end_goes_and_starts_no_other_freeze() -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, 100)
    assert await live(kit, store, ids[30:], LIMIT) == 0
    assert await live(kit, store, ids[30:], 31) == 30
    assert len(store.view("t")) == 70
    turns = [event for event in kit.happened if event.what in ("frozen", "thawed")]
    assert [event.what for event in turns] == ["frozen", "thawed"]
    assert "as long as it may be" in turns[1].reason
    expired = [event for event in kit.happened if event.what == "expired"]
    assert "expiry was frozen" in expired[0].reason
    assert await live(kit, store, ids[30:], 120) == 0


async def test_some_that_come_back_let_the_others_go() -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, 100)
    assert await live(kit, store, ids[30:], 60) == 0
    assert await live(kit, store, ids[10:], 25) == 10
    assert len(store.view("t")) == 90


async def test_tenants_freeze_apart() -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, 20)
    await store.register("other", instance())
    assert await live(kit, store, [], 31) == 1
    assert len(store.view("other")) == 0
    assert len(store.view("t")) == 20
    assert {event.tenant for event in kit.happened if event.what == "frozen"} == {"t"}
    assert {event.tenant for event in kit.happened if event.what == "expired"} == {"other"}
    assert await live(kit, store, ids, 20) == 0


async def test_a_held_instance_may_leave_renew_or_register_again() -> None:
    kit = MemoryKit()
    store, ids = await populated(kit, 20)
    assert await live(kit, store, [], 40) == 0
    await store.remove("t", ids[0])
    await store.register("t", instance(port=2, tags=("v2",)))
    assert await store.renew_many("t", [ids[2], ids[0]]) == [ids[0]]
    assert await live(kit, store, ids[1:3], 60) == 0
    assert len(store.view("t")) == 19
    assert await live(kit, store, ids[1:3], LIMIT) == 17
    assert {lease.instance.id for lease in store.view("t")} == set(ids[1:3])


async def test_those_out_of_service_do_not_count() -> None:
    kit = MemoryKit()
    store, _ = await populated(kit, 5)
    for port in range(101, 201):
        await store.register("t", instance(port=port, status="OUT_OF_SERVICE"))
    assert await live(kit, store, [], 40) == 0
    assert kit.history.frozen == {"t"}


async def test_it_is_seen_in_uptime_metrics_and_events() -> None:
    async with running(freeze_limit=LIMIT) as registry:
        for port in range(1, 7):
            await registry.store.register("default", instance(port=port))
        await registry.pass_time(31)
        uptime = (await registry.ask("GET", "/uptime")).json()
        metrics = (await registry.ask("GET", "/metrics")).body.decode()
        events = (await registry.ask("GET", "/api/v1/events")).json()["events"]
        assert uptime["EXPIRY"] == {"healthy": True, "properties": {"frozen_tenants": 1}}
        assert 'a8_registry_expiry_frozen{tenant="default"} 1.0' in metrics
        assert events[-1]["event"] == "frozen"
        assert "6 of 6 leases are late" in events[-1]["reason"]
        assert len((await registry.ask("GET", "/api/v1/instances")).json()["instances"]) == 6
        for port in range(1, 7):
            await registry.store.renew("default", instance(port=port).id)
        await registry.pass_time(1)
        assert (await registry.ask("GET", "/uptime")).json()["EXPIRY"]["properties"] == {"frozen_tenants": 0}
        assert 'expiry_frozen{tenant="default"} 0.0' in (await registry.ask("GET", "/metrics")).body.decode()


@pytest.mark.parametrize("kind", ["inmem", "redis"])
async def test_a_process_says_so_keeps_them_and_goes_on(kind: str, tmp_path: Path) -> None:
    """Five of six fall silent; watchers see nothing of it, and one that stays away goes in the end."""
    log = tmp_path / "log"
    async with contextlib.AsyncExitStack() as stack:
        address = []
        if kind == "redis":
            server = stack.enter_context(valkey())
            address = ["--store", "redis", "--store-address", f"unix://{server.socket}"]
        file = stack.enter_context(log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(*PROGRAM, "--api-port", "0", "--min-ttl", "1s", "--default-ttl", "4s", *address),
            env={**HERE, **({"A8_STORE_PASSWORD": PASSWORD} if address else {})},
            stderr=file,
        )
        stack.push_async_callback(end, process)

        async def serves() -> re.Match[str] | None:
            return re.search(r"serving .*port=(\d+)", log.read_text())

        port = (await eventually(serves, within=20))[1]
        http = Http(f"http://127.0.0.1:{port}")
        stack.push_async_callback(http.close)
        client = RegistryClient(http)
        ids = [
            (await client.register(Registration("s", Endpoint("http", f"h:{one}")))).id for one in range(1, 7)
        ]
        seen: list[object] = []

        async def watch() -> None:
            async for event in client.watch().events():
                seen.insert(0, event)

        async def renew(some: list[str]) -> None:
            while True:
                await http.request("PUT", "/api/v1/heartbeats", {"ids": some})
                await asyncio.sleep(0.2)

        async def frozen(number: int) -> bool:
            uptime = (await http.request("GET", "/uptime")).json()
            return bool(uptime["EXPIRY"]["properties"]["frozen_tenants"] == number)

        watching = asyncio.ensure_future(watch())
        renewing = asyncio.ensure_future(renew(ids[:1]))
        await eventually(lambda: frozen(1), within=20, what="a freeze")
        assert {one.id for one in await client.instances()} == set(ids)
        metrics = (await http.request("GET", "/metrics")).body.decode()
        assert 'a8_registry_expiry_frozen{tenant="default"} 1.0' in metrics
        assert "expiry frozen tenant=default" in log.read_text()
        renewing.cancel()
        renewing = asyncio.ensure_future(renew(ids[1:]))
        await eventually(lambda: frozen(0), within=20, what="the end of the freeze")

        async def gone() -> bool:
            return {one.id for one in await client.instances()} == set(ids[1:])

        await eventually(gone, within=20, what="the end of one alone")

        async def told() -> bool:
            return isinstance(seen[0], InstanceDelta)

        await eventually(told)
        deltas = [event for event in seen if isinstance(event, InstanceDelta)]
        assert [delta.removed for delta in deltas] == [(ids[0],)], "only the one"
        assert "expiry thawed tenant=default" in log.read_text()
        for task in (watching, renewing):
            task.cancel()
        await asyncio.wait([watching, renewing])
