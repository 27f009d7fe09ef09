"""Instances that come, fail and go, through each proxy: who gets a call, and who gets it again."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from amalgam8.model.instance import Address
from amalgam8.routing.resolve import Peer
from tests.conformance.proxies import PROXIES, Proxy
from tests.sidecar.envoy.support import LIMIT, Backend, Client, backends, simple, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

GONE = Peer("gone", Address("127.0.0.1", 1))
"""Refuses connections."""


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=sorted(PROXIES))
async def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxy]:
    found = PROXIES[request.param]()
    await found.start(tmp_path_factory.mktemp(request.param))
    try:
        yield found
    finally:
        await found.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def pair() -> AsyncIterator[tuple[Backend, Backend]]:
    async with backends("one", "two") as (one, two):
        yield one, two


async def follow(proxy: Proxy, *peers: Peer, name: str = "svc") -> None:
    assert await proxy.apply({name: simple(name, *peers)}) == {}


async def calls(backend: Backend, more: int) -> None:
    """Return when the instance has got so many more."""
    wanted = backend.calls + more
    await until(lambda: backend.calls >= wanted)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
async def test_a_refused_connection_moves_a_call_to_another_instance(
    proxy: Proxy, pair: tuple[Backend, Backend], method: str
) -> None:
    one, _ = pair
    await follow(proxy, GONE, one.peer(), name=f"svc-{method.lower()}")
    async with Client(proxy.port) as client:
        for _ in range(6):
            reply = await client.ask(f"/svc-{method.lower()}/", method=method, body=b"x" * 10_000)
            assert (reply.status, reply.call.size) == (200, 10_000)
    assert one.calls == 6


async def test_a_long_body_survives_a_refused_connection(proxy: Proxy, pair: tuple[Backend, Backend]) -> None:
    """Or, where a proxy keeps too little of it for that, the call is refused whole."""
    one, _ = pair
    size = 20_000_000
    for turn in range(3):  # each time a new service, of which no instance is left out yet
        await follow(proxy, GONE, one.peer(), name=f"long{turn}")
        before = one.calls
        reply = None
        async with Client(proxy.port) as client:
            with contextlib.suppress(ConnectionError, EOFError):  # it was closed while the body still came
                reply = await client.ask(f"/long{turn}/", method="POST", body=b"x" * size)
        if "long-bodies-again" not in proxy.lacks or (reply and reply.status == 200):
            assert reply is not None
            assert (reply.status, reply.call.size) == (200, size)
            continue
        assert one.calls == before, "nothing of it reached an instance"
        if reply:
            assert reply.status == 503
            assert reply.headers["x-a8-reason"] == f"unavailable; service=long{turn}; rule="


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_a_call_that_reached_an_instance_is_not_repeated(
    proxy: Proxy, pair: tuple[Backend, Backend], method: str
) -> None:
    one, two = pair
    await follow(proxy, one.peer(), two.peer())
    async with Client(proxy.port) as client:
        reply = await client.ask("/svc/broken", method=method, body=b"x")
    assert reply.status == 503
    assert one.calls + two.calls == 1


async def test_connections_are_kept_for_each_instance(proxy: Proxy, pair: tuple[Backend, Backend]) -> None:
    one, two = pair
    await follow(proxy, one.peer(), two.peer())
    async with Client(proxy.port) as client:
        for _ in range(40):
            assert (await client.ask("/svc/")).status == 200
    assert (one.calls, two.calls) == (20, 20)
    assert (one.connections, two.connections) == (1, 1)


async def test_an_instance_that_is_gone_gets_no_new_call(proxy: Proxy, pair: tuple[Backend, Backend]) -> None:
    one, two = pair
    seen: Counter[int] = Counter()
    done = asyncio.Event()

    async def load() -> None:
        async with Client(proxy.port) as client:
            while not done.is_set():
                seen[(await client.ask("/svc/")).status] += 1

    await follow(proxy, one.peer(), two.peer())
    async with asyncio.TaskGroup() as group, asyncio.timeout(3 * LIMIT):
        for _ in range(8):
            group.create_task(load())
        for _ in range(10):
            await follow(proxy, two.peer())
            await calls(two, 50)  # by now what was under way has ended
            before = one.calls
            await calls(two, 100)
            assert one.calls == before
            await follow(proxy, one.peer(), two.peer())
            await calls(one, 1)
        done.set()
    assert set(seen) == {200}


async def test_an_instance_that_stops_in_peace_fails_no_call(
    proxy: Proxy, pair: tuple[Backend, Backend]
) -> None:
    """It answers what it has begun, then closes; nobody has told the proxy yet."""
    one, two = pair
    seen: Counter[int] = Counter()
    done = asyncio.Event()

    async def load() -> None:
        async with Client(proxy.port) as client:
            while not done.is_set():
                seen[(await client.ask("/svc/", method="POST", body=b"x")).status] += 1

    await follow(proxy, one.peer(), two.peer())
    async with asyncio.TaskGroup() as group, asyncio.timeout(3 * LIMIT):
        for _ in range(4):
            group.create_task(load())
        await calls(one, 50)
        one.leave()
        await calls(two, 200)
        done.set()
    assert set(seen) == {200}


async def test_a_name_of_several_addresses_is_one_instance_that_is_reached_by_any(
    proxy: Proxy, pair: tuple[Backend, Backend]
) -> None:
    one, two = pair
    places = ("127.0.0.2", "127.0.0.3", "127.0.0.1")  # nobody listens on the first two
    named = Peer("named", Address("localhost", one.port), (), places)
    for turn in range(3):  # each time a new service
        await follow(proxy, named, name=f"named{turn}")
        async with Client(proxy.port) as client:
            for _ in range(4):
                reply = await client.ask(f"/named{turn}/", method="POST", body=b"x")
                assert (reply.status, reply.call.header("host")) == (200, ["localhost"])
    await follow(proxy, named, two.peer())
    before = one.calls
    async with Client(proxy.port) as client:
        for _ in range(40):
            assert (await client.ask("/svc/")).status == 200
    assert (one.calls - before, two.calls) == (20, 20)
