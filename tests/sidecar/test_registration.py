"""The lease as a script in virtual time, and a registration over real sockets."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from amalgam8.clients.http import Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.model.instance import Endpoint, instance_id
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar import registration
from amalgam8.sidecar.registration import Lease, Registration
from tests.conftest import eventually, free_port
from tests.wire import RegistryStandIn, served


def test_it_registers_at_once_and_renews_thrice_in_a_lease() -> None:
    lease = Lease(10.0)
    assert (lease.act, lease.due, lease.registered) == ("register", 10.0, False)
    lease.granted(60, 11.0)
    assert (lease.act, lease.due, lease.registered) == ("renew", 31.0, True)
    lease.renewed(31.0)
    assert (lease.act, lease.due) == ("renew", 51.0)


def test_the_granted_ttl_counts() -> None:
    lease = Lease(0.0)
    lease.granted(30, 0.0)
    assert lease.due == 10.0
    lease.granted(0, 0.0)
    assert lease.due == 20.0


def test_failures_are_tried_again_every_five_seconds_in_the_end() -> None:
    lease, pauses, now = Lease(0.0), [], 0.0
    for _ in range(5):
        lease.refused(now)
        assert lease.act == "register"
        pauses.append(lease.due - now)
        now = lease.due
    assert pauses == [0.25, 1.0, 5.0, 5.0, 5.0]
    lease.granted(60, now)
    lease.gone(now + 20)
    lease.refused(now + 20)
    assert lease.due == now + 20.25


def test_a_lease_that_is_gone_is_taken_anew_at_once() -> None:
    lease = Lease(0.0)
    lease.granted(60, 0.0)
    lease.gone(20.0)
    assert (lease.act, lease.due, lease.registered) == ("register", 20.0, False)


def test_a_new_epoch_registers_again_at_once() -> None:
    lease = Lease(0.0)
    lease.granted(60, 0.0)
    lease.epoch("a", 1.0)
    assert lease.act == "renew"  # the first epoch that is heard of says nothing
    lease.epoch("a", 2.0)
    assert lease.act == "renew"
    lease.epoch("b", 3.0)
    assert (lease.act, lease.due) == ("register", 3.0)


def test_a_registry_that_is_heard_of_is_tried_at_once() -> None:
    lease = Lease(0.0)
    lease.epoch("a", 0.0)
    lease.refused(0.0)
    lease.refused(0.25)
    lease.epoch("a", 0.3)
    assert lease.due == 0.3


@contextlib.asynccontextmanager
async def registering(
    registry: RegistryStandIn, endpoint: Endpoint, port: int = 0, epochs: Latest[str] | None = None
) -> AsyncIterator[Registration]:
    """A registration that runs inside the block against the stand-in."""
    async with served(registry.app, port) as bound:
        http = Http(f"http://127.0.0.1:{bound}")
        one = Registration(RegistryClient(http), "reviews", ("v1",), endpoint, epochs or Latest(""))
        task = asyncio.create_task(one.run())
        try:
            yield one
        finally:
            task.cancel()
            await asyncio.wait([task])
            await http.close()


def listening(port: int = 0) -> socket.socket:
    """Something that takes connections, and never answers."""
    return socket.create_server(("127.0.0.1", port))


def endpoint_of(listener: socket.socket) -> Endpoint:
    return Endpoint("http", f"127.0.0.1:{listener.getsockname()[1]}")


async def seen(registry: RegistryStandIn, count: int) -> None:
    async def enough() -> bool:
        return len(registry.calls) >= count

    await eventually(enough, what=f"{count} calls, not {registry.calls}")


async def test_it_registers_renews_and_deregisters() -> None:
    registry = RegistryStandIn(ttl=3)
    with listening() as app:
        async with registering(registry, endpoint_of(app)) as one:
            await seen(registry, 2)
            assert registry.names() == ["register", "renew"]
            assert one.registered
            body = registry.live[one.id]
            assert (body.service_name, body.ttl, body.status, list(body.tags)) == (
                "reviews",
                60,
                "UP",
                ["v1"],
            )


async def test_deregistering_tells_the_registry() -> None:
    registry = RegistryStandIn()
    with listening() as app:
        async with registering(registry, endpoint_of(app)) as one:
            await seen(registry, 1)
            await one.deregister()
            assert registry.names() == ["register", "deregister"]
            assert not one.registered
            await one.deregister()
            assert registry.names() == ["register", "deregister"]


async def test_it_waits_until_the_app_listens() -> None:
    registry, port = RegistryStandIn(), free_port()
    async with registering(registry, Endpoint("http", f"127.0.0.1:{port}")) as one:
        other = RegistryStandIn()
        with listening() as app:
            async with registering(other, endpoint_of(app)):
                await seen(other, 1)
        assert registry.calls == []
        await one.deregister()  # nothing to take back
        assert registry.calls == []
        with listening(port):
            await seen(registry, 1)


async def test_udp_is_not_waited_for() -> None:
    registry = RegistryStandIn()
    async with registering(registry, Endpoint("udp", f"127.0.0.1:{free_port()}")):
        await seen(registry, 1)


async def test_a_410_registers_again() -> None:
    registry = RegistryStandIn(ttl=1)
    with listening() as app:
        async with registering(registry, endpoint_of(app)):
            await seen(registry, 2)
            registry.calls.clear()
            registry.live.clear()
            await seen(registry, 2)
            assert registry.names()[:2] == ["renew", "register"]


async def test_a_new_epoch_registers_again() -> None:
    registry, epochs = RegistryStandIn(), Latest("a")
    with listening() as app:
        async with registering(registry, endpoint_of(app), epochs=epochs):
            await seen(registry, 1)
            epochs.set("b")
            await seen(registry, 2)
            assert registry.names() == ["register", "register"]


async def test_failures_are_tried_again_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registration, "RETRIES", (0.001,))
    registry = RegistryStandIn()
    registry.refuse = 503
    with listening() as app:
        async with registering(registry, endpoint_of(app)) as one:
            await seen(registry, 4)
            assert not one.registered
            registry.refuse = 0

            async def registered() -> bool:
                return one.registered

            await eventually(registered)
            assert one.counts.failures >= 4
    assert [record.message for record in caplog.records].count("not registered, trying again") == 1


async def test_a_registry_that_does_not_answer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registration, "DEREGISTER_WITHIN", 0.05)
    with listening() as mute:
        http = Http(f"http://127.0.0.1:{mute.getsockname()[1]}")
        endpoint = endpoint_of(mute)
        one = Registration(RegistryClient(http), "reviews", (), endpoint, Latest(""))
        task = asyncio.create_task(one.run())

        async def trying() -> bool:
            return one.counts.registrations > 0

        await eventually(trying)
        task.cancel()
        await asyncio.wait([task])
        async with asyncio.timeout(10):
            await one.deregister()
        await http.close()
    assert one.id == instance_id("reviews", endpoint)
