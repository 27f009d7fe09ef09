"""The catalogue follows a real registry, and keeps what it knows when that goes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.controller.catalogue import Catalogue
from amalgam8.model.instance import Endpoint
from tests.registry import kit


@contextlib.asynccontextmanager
async def following(port: int, clock: Callable[[], float]) -> AsyncIterator[Catalogue]:
    catalogue = Catalogue(clock)
    http = Http(f"http://127.0.0.1:{port}")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(catalogue.follow("default", RegistryClient(http).watch()))
        try:
            yield catalogue
        finally:
            task.cancel()
            await http.close()


async def until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not there():  # noqa: ASYNC110 - a cell without an event of its own
            await asyncio.sleep(0.01)


def services(catalogue: Catalogue) -> set[str] | None:
    groups = catalogue.groups("default")
    return None if groups is None else set(groups)


async def test_instances_come_and_go() -> None:
    async with kit.running() as registry, following(registry.port, lambda: 0.0) as catalogue:
        await until(lambda: services(catalogue) == set())
        granted = await registry.client.register(Registration("reviews", Endpoint("http", "10.0.0.1:1"), 60))
        await until(lambda: services(catalogue) == {"reviews"})
        await registry.client.deregister(granted.id)
        await until(lambda: services(catalogue) == set())


def test_a_tenant_that_is_not_followed_is_not_known() -> None:
    assert Catalogue(lambda: 0.0).groups("default") is None


async def test_what_a_lost_registry_told_stays() -> None:
    async with kit.running() as registry, following(registry.port, lambda: 0.0) as catalogue:
        await registry.client.register(Registration("reviews", Endpoint("http", "10.0.0.1:1"), 60))
        await until(lambda: services(catalogue) == {"reviews"})
    assert services(catalogue) == {"reviews"}


async def test_a_registry_that_forgot_is_believed_after_the_lease_time() -> None:
    now = [0.0]
    async with kit.running() as first:
        port = first.port
        async with contextlib.AsyncExitStack() as stack:
            catalogue = await stack.enter_async_context(following(port, lambda: now[0]))
            await first.client.register(Registration("reviews", Endpoint("http", "10.0.0.1:1"), 60))
            await until(lambda: services(catalogue) == {"reviews"})
    async with kit.running(port=port) as second, following(port, lambda: now[0]) as again:
        await until(lambda: services(again) == set())
        await second.client.register(Registration("ratings", Endpoint("http", "10.0.0.1:2"), 60))
        await until(lambda: services(again) == {"ratings"})
