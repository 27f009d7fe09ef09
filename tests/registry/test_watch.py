"""The watch stream over a real socket, and the source behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from amalgam8.clients.http import Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.clients.sse import Parser, Received
from amalgam8.clients.watch import Lost
from amalgam8.model.instance import Instance
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.registry.watch import DELTAS_KEPT, SNAPSHOT_FOR, InstanceSource
from amalgam8.runtime.feed import LENGTH, Gap
from tests.conftest import eventually
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit, running

PATH = "/api/v1/instances/watch"


@contextlib.asynccontextmanager
async def watching(http: Http, query: str = "", last: str = "") -> AsyncIterator[AsyncIterator[Received]]:
    """The raw events of one stream."""

    async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[Received]:
        parser = Parser()
        async for chunk in chunks:
            for event in parser.feed(chunk):
                yield event

    headers = {"Last-Event-ID": last} if last else {}
    async with asyncio.timeout(20), http.stream(PATH + query, headers=headers, silence=10) as chunks:
        yield events(chunks)


async def upto(events: AsyncIterator[Received], revision: int) -> list[dict[str, Any]]:
    """Read deltas until one leads to ``revision``."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["revision"] < revision:
        event = await anext(events)
        assert event.name == "delta", event
        found.append(msgspec.json.decode(event.data))
    return found


def known(events: list[dict[str, Any]]) -> dict[str, Any]:
    """What a watcher knows after these snapshots and deltas."""
    state: dict[str, Any] = {}
    for event in events:
        if "instances" in event:
            state = {one["id"]: one for one in event["instances"]}
        else:
            state.update({one["id"]: one for one in event["upserted"]})
            for identity in event["removed"]:
                state.pop(identity, None)
    return state


async def test_hello_then_snapshot_then_deltas() -> None:
    async with running() as registry, watching(registry.http) as events:
        hello = await anext(events)
        assert (hello.name, hello.id) == ("hello", "")
        assert msgspec.json.decode(hello.data) == {
            "epoch": registry.store.epoch,
            "revision": 0,
            "protocol": 1,
        }
        snapshot = await anext(events)
        assert (snapshot.name, snapshot.id) == ("snapshot", f"{registry.store.epoch}.0")
        assert msgspec.json.decode(snapshot.data) == {"revision": 0, "instances": []}
        await registry.store.register("default", instance(tags=("v1",)))
        delta = await anext(events)
        assert (delta.name, delta.id) == ("delta", f"{registry.store.epoch}.1")
        data = msgspec.json.decode(delta.data)
        assert data["removed"] == []
        shown = (await registry.ask("GET", f"/api/v1/instances/{instance().id}")).json()
        assert data["upserted"] == [shown]
        await registry.store.remove("default", instance().id)
        delta = await anext(events)
        assert msgspec.json.decode(delta.data) == {"revision": 2, "upserted": [], "removed": [instance().id]}


async def test_every_status_is_told() -> None:
    async with running() as registry:
        for port, status in enumerate(("UP", "STARTING", "OUT_OF_SERVICE"), 1):
            await registry.store.register("default", instance(port=port, status=status))
        async with watching(registry.http) as events:
            await anext(events)
            found = msgspec.json.decode((await anext(events)).data, type=InstanceSnapshot)
    assert {one.status for one in found.instances} == {"UP", "STARTING", "OUT_OF_SERVICE"}


async def test_a_renewal_is_no_event_and_expiry_is_one() -> None:
    async with running() as registry:
        await registry.store.register("default", instance())
        async with watching(registry.http) as events:
            await anext(events)
            await anext(events)
            await registry.ask("PUT", f"/api/v1/instances/{instance().id}/heartbeat")
            await registry.store.register("default", instance())
            await registry.pass_time(31)
            delta = msgspec.json.decode((await anext(events)).data)
    assert delta == {"revision": 2, "upserted": [], "removed": [instance().id]}


async def test_only_the_services_chosen() -> None:
    async with running() as registry:
        await registry.store.register("default", instance("a", 1))
        await registry.store.register("default", instance("b", 2))
        async with watching(registry.http, "?service_name=a&service_name=c&protocol=1") as events:
            await anext(events)
            snapshot = msgspec.json.decode((await anext(events)).data)
            assert [one["service_name"] for one in snapshot["instances"]] == ["a"]
            await registry.store.register("default", instance("b", 3))
            await registry.store.remove("default", instance("b", 2).id)
            await registry.store.register("default", instance("c", 4))
            deltas = await upto(events, 5)
    told = [one["service_name"] for delta in deltas for one in delta["upserted"]]
    assert told == ["c"]
    assert [delta["removed"] for delta in deltas] == [[]]


async def test_a_resumed_stream_gets_what_it_missed_and_no_snapshot() -> None:
    async with running() as registry:
        await registry.store.register("default", instance(port=1))
        await registry.store.register("default", instance(port=2))
        async with watching(registry.http) as events:
            await anext(events)
            last = (await anext(events)).id
        await registry.store.remove("default", instance(port=1).id)
        await registry.store.register("default", instance(port=3))
        await registry.store.register("default", instance(port=3, tags=("v2",)))
        await registry.store.view("default").feed.newer(4)
        async with watching(registry.http, last=last) as events:
            assert (await anext(events)).name == "hello"
            deltas = await upto(events, 5)
    assert len(deltas) == 1
    assert deltas[0]["removed"] == [instance(port=1).id]
    assert [one["tags"] for one in deltas[0]["upserted"]] == [["v2"]]


async def test_a_stream_resumed_where_nothing_happened_waits() -> None:
    async with running() as registry:
        await registry.store.register("default", instance(port=1))
        async with watching(registry.http, last=f"{registry.store.epoch}.1") as events:
            await anext(events)
            await registry.store.register("default", instance(port=2))
            event = await anext(events)
    assert event.name == "delta"


@pytest.mark.parametrize("last", ["{epoch}.99", "another.1", "rubbish", "{epoch}.", ".1", "{epoch}.-1"])
async def test_a_place_that_is_not_known_gets_a_snapshot(last: str) -> None:
    async with running() as registry:
        await registry.store.register("default", instance())
        async with watching(registry.http, last=last.format(epoch=registry.store.epoch)) as events:
            await anext(events)
            event = await anext(events)
    assert (event.name, event.id) == ("snapshot", f"{registry.store.epoch}.1")


async def test_a_place_that_has_left_the_log_gets_a_snapshot() -> None:
    async with running() as registry:
        for port in range(1, LENGTH + 3):
            await registry.store.register("default", instance(port=port, ttl=600))
        async with watching(registry.http, last=f"{registry.store.epoch}.1") as events:
            await anext(events)
            event = await anext(events)
    assert event.name == "snapshot"
    assert len(msgspec.json.decode(event.data)["instances"]) == LENGTH + 2


async def test_newlines_in_metadata_stay_within_one_event() -> None:
    body = b'{"service_name":"a","endpoint":{"type":"http","value":"h:1"},"metadata":{"a":\r\n\n[1,\n2]}}'
    async with running() as registry:
        await registry.store.register("default", instance())
        async with watching(registry.http) as events:
            await anext(events)
            await anext(events)
            await registry.ask("POST", "/api/v1/instances", body)
            delta = msgspec.json.decode((await anext(events)).data)
        async with watching(registry.http) as events:
            await anext(events)
            snapshot = msgspec.json.decode((await anext(events)).data)
    assert delta["upserted"][0]["metadata"] == {"a": [1, 2]}
    assert {"a": [1, 2]} in [one.get("metadata") for one in snapshot["instances"]]


async def test_whatever_the_pace_a_watcher_ends_up_with_the_truth() -> None:
    async with running() as registry, watching(registry.http) as events:
        await anext(events)
        told = [msgspec.json.decode((await anext(events)).data)]
        for number in range(600):
            port = number % 37 + 1
            if number % 5 == 4 and registry.store.view("default").get(instance(port=port).id):
                await registry.store.remove("default", instance(port=port).id)
            else:
                await registry.store.register("default", instance(port=port, tags=(f"v{number}",)))
            if number % 20 == 0:
                await asyncio.sleep(0)
        told += await upto(events, registry.store.view("default").feed.revision)
        truth = {lease.instance.id: list(lease.instance.tags) for lease in registry.store.view("default")}
    assert {identity: one["tags"] for identity, one in known(told).items()} == truth
    assert len(told) < 100


async def test_the_client_follows_a_restart_and_is_given_the_new_epoch() -> None:
    http: Http | None = None
    seen: list[Hello | InstanceSnapshot | InstanceDelta | Lost] = []

    async def follow(watch: Any) -> None:
        async for event in watch.events():
            seen.append(event)  # noqa: PERF401 - others read it meanwhile

    async def last_snapshot(tags: tuple[str, ...]) -> bool:
        snapshots = [event for event in seen if isinstance(event, InstanceSnapshot)]
        return bool(snapshots) and [one.tags for one in snapshots[-1].instances] == [tags]

    async with asyncio.TaskGroup() as tasks:
        async with running() as registry:
            await registry.store.register("default", instance(tags=("old",)))
            http = Http(f"http://127.0.0.1:{registry.port}", timeout=10)
            follower = tasks.create_task(follow(RegistryClient(http).watch()))
            await eventually(lambda: last_snapshot(("old",)))
            port = registry.port
        async with running(port=port) as registry:
            await registry.store.register("default", instance(tags=("new",)))
            await eventually(lambda: last_snapshot(("new",)), within=15)
        follower.cancel()
    await http.close()
    epochs = [event.epoch for event in seen if isinstance(event, Hello)]
    assert len(set(epochs)) == 2
    assert any(isinstance(event, Lost) for event in seen)


async def test_a_slow_reader_gets_a_fresh_snapshot_and_costs_no_memory() -> None:
    big = msgspec.Raw(b'"' + b"m" * 1000 + b'"')
    async with running() as registry:
        store = registry.store
        reader, writer = await asyncio.open_connection("127.0.0.1", registry.port, limit=4096)
        writer.write(b"GET /api/v1/instances/watch HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(40):
            assert b"hello" in await reader.readuntil(b"hello")
            # More than the buffers of both sockets take, and more changes than the log holds.
            for number in range(3 * LENGTH):
                one = msgspec.structs.replace(instance(port=number % 5000 + 1, ttl=600), metadata=big)
                await store.register("default", msgspec.structs.replace(one, tags=(f"v{number}",)))
                if number % 50 == 0:
                    await asyncio.sleep(0.001)
            assert registry.watchers.count("default") == 1
            feed = store.view("default").feed
            assert len(feed._log) == LENGTH
            ends = f'"revision":{feed.revision},'.encode()
            text = bytearray()
            while ends not in text:
                text += await reader.read(65536)
        writer.close()
    assert text.count(b"event: snapshot") >= 2
    assert len(text) < 3 * LENGTH * 1300


async def test_the_number_of_watchers_is_limited_and_slots_come_back() -> None:
    async with running(watchers_limit=2) as registry:
        async with watching(registry.http) as one, watching(registry.http) as two:
            await anext(one)
            await anext(two)
            answer = await registry.ask("GET", PATH)
            assert (answer.status, answer.json()["code"]) == (503, "too_many_watchers")
            assert registry.watchers.count("default") == 2
            assert registry.watchers.count("other") == 0

        async def free() -> bool:
            return registry.watchers.count("default") == 0

        await eventually(free)
        assert not registry.watchers._sources
        async with watching(registry.http) as three:
            assert (await anext(three)).name == "hello"


async def test_watchers_are_counted_in_the_metrics() -> None:
    async with running() as registry, watching(registry.http) as one:
        await anext(one)
        text = (await registry.ask("GET", "/metrics")).body.decode()
    assert 'a8_registry_watchers{tenant="default"} 1.0' in text


async def source(*services: str) -> tuple[MemoryKit, Any, InstanceSource]:
    kit = MemoryKit()
    store = kit.make()
    return kit, store, InstanceSource(store.epoch, store.view("t"), frozenset(services), lambda: kit.now)


async def test_watchers_at_the_same_place_share_the_bytes() -> None:
    _, store, shared = await source()
    await store.register("t", instance(port=1))
    assert shared.snapshot() is shared.snapshot()
    await store.view("t").feed.newer(0)
    first, second = shared.since(0), shared.since(0)
    assert first[1] is second[1] is not None
    assert shared.since(1) == (1, None)
    await store.register("t", instance(port=2))
    await store.view("t").feed.newer(1)
    reached, event = shared.since(0)
    assert reached == 2
    assert event is not first[1]


async def test_a_snapshot_is_made_anew_after_a_change_or_a_while() -> None:
    kit, store, shared = await source()
    await store.register("t", instance())
    old = shared.snapshot()
    kit.advance(SNAPSHOT_FOR / 2)
    await store.renew("t", instance().id)
    assert shared.snapshot() is old
    kit.advance(SNAPSHOT_FOR)
    assert shared.snapshot().data != old.data
    await store.register("t", instance(port=2))
    assert shared.snapshot().revision == 2


async def test_deltas_kept_are_bounded() -> None:
    _, store, shared = await source()
    for port in range(1, 101):
        await store.register("t", instance(port=port))
    await store.view("t").feed.newer(99)
    for revision in range(100):
        reached, event = shared.since(revision)
        assert reached == 100
        assert event is not None
        assert len(msgspec.json.decode(event.data)["upserted"]) == 100 - revision
    assert len(shared._deltas) <= DELTAS_KEPT
    with pytest.raises(Gap):
        shared.since(101)


async def test_of_several_changes_the_last_is_told() -> None:
    _, store, shared = await source()
    await store.register("t", instance(port=1))
    await store.remove("t", instance(port=1).id)
    await store.register("t", instance(port=2))
    await store.register("t", instance(port=2, tags=("v2",)))
    await store.register("t", instance(port=1, tags=("back",)))
    await store.view("t").feed.newer(4)
    _, event = shared.since(0)
    assert event is not None
    delta = msgspec.json.decode(event.data, type=InstanceDelta)
    tags: dict[str, tuple[str, ...]] = {one.endpoint.value: one.tags for one in delta.upserted}
    assert tags == {"10.0.0.1:1": ("back",), "10.0.0.1:2": ("v2",)}
    assert delta.removed == ()
    assert all(isinstance(one, Instance) for one in delta.upserted)


async def test_other_tenants_are_not_told() -> None:
    async with running() as registry:
        await registry.store.register("other", instance("secret"))
        async with watching(registry.http) as events:
            await anext(events)
            assert msgspec.json.decode((await anext(events)).data)["instances"] == []
            await registry.store.remove("other", instance("secret").id)
            await registry.store.register("default", instance())
            delta = msgspec.json.decode((await anext(events)).data)
    assert delta["revision"] == 1
    assert [one["service_name"] for one in delta["upserted"]] == ["reviews"]
