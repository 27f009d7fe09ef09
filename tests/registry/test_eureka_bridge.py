"""The bridge to a Eureka: our own registry's Eureka API at the far end, read by a real client of Eureka."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from py_eureka_client import eureka_basic
from starlette.types import Receive, Scope, Send

from amalgam8.catalogs.eureka import open_catalog
from amalgam8.catalogs.eureka_document import PUBLISHED_KEY, read_instance
from amalgam8.catalogs.eureka_link import Link
from amalgam8.clients.http import Http
from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.registry.api import Registry
from amalgam8.registry.catalogued import CataloguedStore
from amalgam8.registry.eureka_bridge import AT_ONCE, Bridge, Bridging, open_bridge
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.metrics import Metrics
from amalgam8.registry.registration import Ttls
from amalgam8.registry.watch import Watchers
from amalgam8.web.app import Api
from amalgam8.web.auth import Auth
from tests.conftest import eventually, free_port
from tests.contracts.registry_store import instance
from tests.registry.kit import MemoryKit, Running, running
from tests.registry.redis_kit import redis_kit
from tests.registry.test_main import registry
from tests.wire import served

QUICK = 0.6
"""Seconds of a lease in Eureka: renewed five times a second."""


class Gate:
    """What stands before a Eureka: counts requests, and answers in its place if it is to."""

    def __init__(self, behind: Api) -> None:
        self._behind = behind
        self.refuse = 0
        self.counted: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.authorization = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.authorization = dict(scope["headers"]).get(b"authorization", b"").decode()
        self.counted[scope["method"]] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.refuse:
                await send({"type": "http.response.start", "status": self.refuse, "headers": []})
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._behind(scope, receive, send)
        finally:
            self.at_once -= 1


class Near:
    """A registry's store with a bridge, and with the catalogue of the same Eureka."""

    def __init__(self, *urls: str, lease: float = QUICK, catalogue: bool = False, **more: Any) -> None:
        self.kit = MemoryKit()
        self.leases = self.kit.make()
        opened = [open_catalog({"url": ",".join(urls), "period": "20ms"})] if catalogue else []
        self.store = CataloguedStore(self.leases, opened)
        self.links = [Link(url, timeout=5, connections=AT_ONCE) for url in urls]
        self.bridge = Bridge(self.leases, self.links, lease=lease, **more)

    def shown(self) -> set[str]:
        return {lease.instance.id for lease in self.store.view("default")}

    async def add(self, *some: Instance) -> None:
        for one in some:
            await self.leases.register("default", one)

    @contextlib.asynccontextmanager
    async def going(self) -> AsyncIterator["Near"]:
        async with asyncio.TaskGroup() as tasks:
            both = [
                tasks.create_task(self.bridge.run()),
                tasks.create_task(self.store.catalogs.run()),
            ]
            try:
                yield self
            finally:
                for task in both:
                    task.cancel()


def base(far: Running) -> str:
    return f"http://127.0.0.1:{far.port}/eureka"


def there(far: Running | MemoryStore) -> dict[str, str]:
    """What the far end has: keys of Eureka and statuses."""
    store = far.store if isinstance(far, Running) else far
    return {lease.instance.id.partition(":")[2]: lease.instance.status for lease in store.view("default")}


async def stands(far: Running, *wanted: Instance, **statuses: str) -> None:
    expected = {one.id: statuses.get(one.id, one.status) for one in wanted}

    async def same() -> bool:
        return there(far) == expected

    await eventually(same, what=f"{expected} there")


async def renewed(far: Running, times: int = 2) -> None:
    """Wait until each instance there has been renewed so many times more."""
    before = Counter(one.id for one in far.kit.happened if one.what == "renewed")

    async def often() -> bool:
        now = Counter(one.id for one in far.kit.happened if one.what == "renewed")
        return all(
            now[lease.instance.id] - before[lease.instance.id] >= times for lease in far.store.view("default")
        )

    await eventually(often, what="renewals")


async def test_what_is_registered_here_stands_there_as_a_client_of_eureka_sees_it() -> None:
    one = msgspec.structs.replace(
        instance(tags=("v1", "blue")), metadata=msgspec.Raw(b'{"zone":"z1"}'), status="UP"
    )
    async with running() as far, Near(base(far)).going() as near:
        await near.add(one, instance(port=2, status="STARTING"))
        await near.leases.register("other", instance(port=3))
        await stands(far, one, instance(port=2, status="STARTING"))

        async def settled() -> bool:
            return near.bridge.state() == Bridging("default", 2, 0, 0)

        await eventually(settled)
        application = await eureka_basic.get_application(base(far), "reviews")
        seen = {found.instanceId: found for found in application.instances}[one.id]
        assert (seen.app, seen.hostName, seen.port.port, seen.vipAddress) == (
            "REVIEWS",
            "10.0.0.1",
            9080,
            "reviews",
        )
        assert seen.metadata == {"zone": "z1", "amalgam8.tags": "v1,blue", PUBLISHED_KEY: "true"}


async def test_it_is_renewed_follows_its_status_and_leaves() -> None:
    one, two = instance(), instance(port=2)
    async with running() as far, Near(base(far)).going() as near:
        await near.add(one, two)
        await stands(far, one, two)
        await renewed(far)
        await near.add(instance(status="OUT_OF_SERVICE"))
        await stands(far, one, two, **{one.id: "OUT_OF_SERVICE"})
        await near.add(one)
        await stands(far, one, two)
        await near.leases.remove("default", two.id)
        await stands(far, one)
        near.kit.advance(31)
        await near.leases.expire()
        await stands(far)
        assert [event.what for event in far.kit.happened if event.id.endswith(two.id)][-1] == "removed"


async def test_what_eureka_lost_is_registered_again() -> None:
    async with running() as far, Near(base(far)).going() as near:
        await near.add(instance(), instance(port=2))
        await stands(far, instance(), instance(port=2))
        await far.pass_time(1000)
        await stands(far, instance(), instance(port=2))
        assert Counter(event.what for event in far.kit.happened)["expired"] == 2


async def test_an_instance_that_is_of_eureka_here_too_keeps_its_id_and_its_document() -> None:
    async with running() as far, Near(base(far)).going() as near:
        document = {
            "instanceId": "host-1:orders:7000",
            "app": "ORDERS",
            "hostName": "host-1",
            "ipAddr": "10.0.0.9",
            "vipAddress": "orders.vip",
            "port": {"$": 7000, "@enabled": "true"},
            "homePageUrl": "http://host-1/",
            "metadata": {"a": "b"},
        }
        read = read_instance(document)
        extension = msgspec.Raw(msgspec.json.encode(read.extension))
        await near.add(msgspec.structs.replace(read.instance, ttl=30, extension=extension))

        async def seen() -> Any:
            answer = await far.ask("GET", "/eureka/apps/orders/host-1:orders:7000", headers=JSON)
            return answer.json()["instance"] if answer.status == 200 else None

        shown = await eventually(seen)
        assert (shown["vipAddress"], shown["homePageUrl"], shown["ipAddr"]) == (
            "orders.vip",
            "http://host-1/",
            "10.0.0.9",
        )
        assert shown["metadata"] == {"a": "b", PUBLISHED_KEY: "true"}
        await near.leases.remove("default", read.instance.id)
        await stands(far)


JSON = {"Accept": "application/json"}


async def test_two_registries_at_one_eureka_make_no_loop() -> None:
    own = eureka_basic.Instance(
        instanceId="z", app="OWN", hostName="h", ipAddr="10.0.0.3", vipAddress="own", status="UP"
    )
    one, two = instance(port=1), instance(port=2)
    async with running() as far:
        gate = Gate(far.app)
        async with served(gate) as port:
            url = f"http://127.0.0.1:{port}/eureka"
            await eureka_basic.register(url, own)
            async with Near(url, catalogue=True).going() as a, Near(url, catalogue=True).going() as b:
                await a.add(one)
                await b.add(two)

                async def all_three() -> bool:
                    return set(there(far)) == {one.id, two.id, "z"}

                await eventually(all_three)
                await renewed_of(far, one, two)

                async def catalogued() -> bool:
                    return (a.shown(), b.shown()) == ({one.id, "own:z"}, {two.id, "own:z"})

                await eventually(catalogued)
                # What came from there stays there: several looks and renewals later nothing has changed.
                asked = gate.counted["GET"]

                async def looked() -> bool:
                    return gate.counted["GET"] > asked + 20

                await eventually(looked)
                await renewed_of(far, one, two)
                assert await all_three()
                assert await catalogued()
                assert gate.counted["POST"] == 3
                await a.leases.remove("default", one.id)

                async def left() -> bool:
                    return set(there(far)) == {two.id, "z"}

                await eventually(left)
                assert gate.counted["DELETE"] == 1


async def renewed_of(far: Running, *some: Instance) -> None:
    before = Counter(one.id.partition(":")[2] for one in far.kit.happened if one.what == "renewed")

    async def twice() -> bool:
        now = Counter(one.id.partition(":")[2] for one in far.kit.happened if one.what == "renewed")
        return all(now[one.id] - before[one.id] >= 2 for one in some)

    await eventually(twice, what="renewals")


@contextlib.asynccontextmanager
async def mutual(port: int, other: int) -> AsyncIterator[tuple[Near, Gate]]:
    """A registry that serves its own Eureka API, and is bridged to the other's."""
    near = Near(f"http://127.0.0.1:{other}/eureka", catalogue=True)
    gate = Gate(Registry(near.store, Ttls(), Watchers(near.store), Metrics(), Auth()).application())
    async with served(gate, port), near.going():
        yield near, gate


async def test_two_registries_bridged_to_each_other_make_no_loop() -> None:
    """Each is the other's Eureka and its catalogue too; none keeps alive what the other has ended."""
    here, yonder = free_port(), free_port()
    one, two = instance(port=1), instance(port=2)
    async with mutual(here, yonder) as (a, gate_a), mutual(yonder, here) as (b, gate_b):
        await a.add(one)
        await b.add(two)

        async def both() -> bool:
            of_a, of_b = f"reviews:{one.id}", f"reviews:{two.id}"
            return (a.shown(), b.shown()) == ({one.id, of_b}, {two.id, of_a})

        await eventually(both)
        for gate in (gate_a, gate_b):
            seen = gate.counted.total()

            async def more(gate: Gate = gate, seen: int = seen) -> bool:
                return gate.counted.total() > seen + 30

            await eventually(more)
        assert await both()
        assert gate_a.counted["POST"] <= 1
        assert gate_b.counted["POST"] <= 1
        await a.leases.remove("default", one.id)

        async def gone() -> bool:
            return (a.shown(), b.shown()) == ({f"reviews:{two.id}"}, {two.id})

        await eventually(gone)


async def test_what_is_registered_there_by_itself_is_left_alone() -> None:
    """A client of both, whose registration there is its own."""
    own = Instance("own:z", "own", Endpoint("tcp", "h:1"), 30, "UP")
    there_too = {"instanceId": "z", "hostName": "h", "ipAddr": "10.0.0.3", "vipAddress": "own"}
    async with running() as far:
        gate = Gate(far.app)
        async with served(gate) as port, Near(f"http://127.0.0.1:{port}/eureka").going() as near:
            await far.ask("POST", "/eureka/apps/OWN", {"instance": there_too})
            await near.add(own)

            async def looked() -> bool:
                return gate.counted["GET"] >= 3

            await eventually(looked)
            assert set(gate.counted) == {"GET"}
            assert near.bridge.state() == Bridging("default", 0, 1, 0)
            await near.leases.remove("default", own.id)
            assert near.bridge.state() == Bridging("default", 0, 0, 0)
            assert there(far) == {"z": "UP"}
            # Once it has left there, the bridge stands in for it.
            await near.add(own)
            await far.ask("DELETE", "/eureka/apps/OWN/z")

            async def published() -> bool:
                return near.bridge.state().published == 1

            await eventually(published)


async def test_another_server_takes_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with contextlib.AsyncExitStack() as stack:
        second = await stack.enter_async_context(running())
        first = contextlib.AsyncExitStack()
        far = await first.enter_async_context(running())
        near = await stack.enter_async_context(Near(base(far), base(second)).going())
        await near.add(instance(), instance(port=2))
        await stands(far, instance(), instance(port=2))
        assert there(second) == {}
        await first.aclose()
        await stands(second, instance(), instance(port=2))
        await near.leases.remove("default", instance().id)
        await stands(second, instance(port=2))
    assert "another Eureka server is written to from now on" in caplog.text
    assert "cannot be written to" not in caplog.text


async def test_eureka_goes_and_comes_back_empty(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    some = [instance(port=number) for number in range(1, 41)]
    async with Near(f"http://127.0.0.1:{port}/eureka").going() as near:
        async with running(port=port) as far:
            await near.add(*some)
            await stands(far, *some)

        async def noticed() -> bool:
            return near.bridge.state().failures > 2

        await eventually(noticed)
        await near.leases.remove("default", some[0].id)
        await near.add(instance(port=99), instance(port=2, tags=("v9",)))
        async with running(port=port) as far:
            await stands(far, *some[1:], instance(port=99))
            assert there(far)
            tags = {lease.instance.tags for lease in far.store.view("default")}
            assert tags == {(), ("v9",)}
            await renewed(far, 1)
            lines = [*caplog.records]
    warnings = [line for line in lines if line.getMessage() == "Eureka cannot be written to"]
    assert len(warnings) == 1
    assert "cannot be reached" in warnings[0].__dict__["a8"]["reason"]
    assert "Eureka can be written to again" in caplog.text


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("status", [503, 401])
async def test_one_asks_whether_it_is_back_and_then_all_come_at_a_measured_pace(status: int) -> None:
    clock = Clock()
    some = [instance(port=number) for number in range(1, 31)]
    async with running() as far:
        gate = Gate(far.app)
        gate.refuse = status
        async with served(gate) as port:
            near = Near(f"http://127.0.0.1:{port}/eureka", lease=90, clock=clock)
            async with near.going():
                await near.add(*some)

                async def paused() -> bool:
                    return near.bridge.state().failures > 0 and near.bridge._busy == 0

                await eventually(paused)
                first = gate.counted.total()
                assert first <= AT_ONCE
                for number in range(1, 6):
                    clock.now += 15  # the longest pause

                    async def once_more(number: int = number) -> bool:
                        return near.bridge.state().failures == first + number

                    await eventually(once_more)
                    assert gate.counted.total() == first + number, "one asks for all"
                gate.refuse = 0
                clock.now += 15
                await stands(far, *some)
                assert gate.most_at_once <= AT_ONCE


async def test_one_that_is_refused_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    long = msgspec.structs.replace(
        instance(port=1), metadata=msgspec.Raw(msgspec.json.encode({"a": "x" * 1000}))
    )
    async with running(capacity=2) as far, Near(base(far)).going() as near:
        await near.add(long, instance(port=2), instance(port=3))
        await stands(far, instance(port=2), instance(port=3))
        await near.add(instance(port=4))

        async def refused() -> bool:
            return near.bridge.state().failures > 4

        await eventually(refused)
        await near.leases.remove("default", instance(port=2).id)
        await stands(far, instance(port=3), instance(port=4))
    lines = [record for record in caplog.records if record.getMessage() == "Eureka refuses an instance"]
    told = [record.__dict__["a8"]["reason"] for record in lines if record.levelno == logging.WARNING]
    assert sorted(reason[-3:] for reason in told) == ["400", "500"], "once for each reason"


async def test_credentials_are_sent_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as far:
        gate = Gate(far.app)
        gate.refuse = 401
        async with (
            served(gate) as port,
            Near(f"http://mesh:p%40ss@127.0.0.1:{port}/eureka").going() as near,
        ):
            await near.add(instance())

            async def refused() -> bool:
                return near.bridge.state().failures > 0

            await eventually(refused)
    assert gate.authorization == "Basic bWVzaDpwQHNz"
    shown = " ".join(repr(record.__dict__) for record in caplog.records)
    assert "status 401" in shown
    assert "p@ss" not in shown
    assert "p%40ss" not in shown


async def test_two_registries_that_share_a_store_publish_the_same() -> None:
    """Also while that store is away, and after it has lost everything and was given it back."""
    one, two = instance(port=1), instance(port=2)
    async with redis_kit(durable=True) as kit, running() as far, asyncio.TaskGroup() as tasks:
        stores = [kit.make(), kit.make()]
        bridges = [Bridge(store, [Link(base(far), timeout=5)], lease=QUICK) for store in stores]
        going = [tasks.create_task(bridge.run()) for bridge in bridges]
        try:
            await kit.up(*stores)
            await stores[0].register("default", one)
            await stores[1].register("default", two)
            await stands(far, one, two)
            await renewed(far)
            epoch = stores[0].epoch
            kit.server.kill()
            await kit.down(*stores)
            kit.server.lose()
            await renewed(far)
            kit.server.start()
            await kit.up(*stores)

            async def anew() -> bool:
                return stores[0].epoch == stores[1].epoch != epoch

            await eventually(anew)
            await renewed(far)
            await stands(far, one, two)
            assert not [event for event in far.kit.happened if event.what == "removed"]
            await stores[1].remove("default", one.id)
            await stands(far, two)
            await renewed(far)
            await stands(far, two)
        finally:
            for task in going:
                task.cancel()


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="url: the value is not allowed"):
        open_bridge(MemoryKit().make(), ["ftp://x"])


async def test_as_a_process() -> None:
    """Settings, log, metrics, and that the end of the registry takes nothing away."""
    async with running() as far:
        gate = Gate(far.app)
        async with served(gate) as port:
            url = f"http://127.0.0.1:{port}/eureka"
            async with registry("--eureka-url", url, "--eureka-publish") as (process, near_port):
                body = {"service_name": "reviews", "endpoint": {"type": "http", "value": "10.0.0.1:9080"}}
                http = Http(f"http://127.0.0.1:{near_port}")
                await http.request("POST", "/api/v1/instances", body)
                await stands(far, instance())

                async def told() -> bool:
                    metrics = (await http.request("GET", "/metrics")).body.decode()
                    return (
                        'a8_registry_eureka_published{tenant="default"} 1.0' in metrics
                        and 'a8_registry_eureka_failures{tenant="default"} 0.0' in metrics
                    )

                await eventually(told)
                await http.close()
                process.terminate()
                assert process.stderr is not None
                async with asyncio.timeout(10):
                    log = (await process.stderr.read()).decode()
                    assert await process.wait() == 0
            assert "an instance is published in Eureka tenant=default service=reviews" in log
            assert set(there(far)) == {instance().id}
            assert gate.counted["DELETE"] == 0
