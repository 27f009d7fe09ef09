"""The catalogue follows a real registry for whoever asks, and keeps what it knows when that goes."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from amalgam8.clients.http import Http
from amalgam8.clients.registry import Registration, RegistryClient
from amalgam8.controller.catalogue import FIRST_WITHIN, Catalogue, Connect, whose
from amalgam8.controller.main import connecting
from amalgam8.controller.settings import ControllerSettings
from amalgam8.model.instance import Endpoint
from amalgam8.web.auth import Auth, Trusted
from tests.conftest import eventually, free_port
from tests.registry import kit

REVIEWS = Registration("reviews", Endpoint("http", "10.0.0.1:1"), 60)


def to(port: int) -> Connect:
    return lambda _tenant: Http(f"http://127.0.0.1:{port}")


@contextlib.asynccontextmanager
async def running(connect: Connect, clock: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Catalogue]:
    catalogue = Catalogue(clock, connect)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(catalogue.run())
        try:
            yield catalogue
        finally:
            task.cancel()


async def services(catalogue: Catalogue, tenant: str = "default") -> set[str] | None:
    groups = await catalogue.groups(tenant)
    return None if groups is None else set(groups)


def knows(catalogue: Catalogue, *names: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await services(catalogue) == set(names)

    return check


async def test_the_first_question_waits_for_the_instances() -> None:
    async with kit.running() as registry, running(to(registry.port)) as catalogue:
        granted = await registry.client.register(REVIEWS)
        assert await services(catalogue) == {"reviews"}
        await registry.client.deregister(granted.id)
        await eventually(knows(catalogue))


async def test_a_tenant_without_a_way_to_the_registry_is_not_known() -> None:
    async with running(lambda _: None) as catalogue:
        assert await services(catalogue) is None
    assert await services(Catalogue(lambda: 0.0)) is None


async def test_a_registry_that_is_not_there_keeps_nobody_waiting_twice() -> None:
    async with running(to(free_port())) as catalogue:
        async with asyncio.timeout(FIRST_WITHIN + 5):
            assert await services(catalogue) is None
        for _ in range(20):
            assert await services(catalogue) is None


async def test_what_a_lost_registry_told_stays() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with kit.running() as registry:
            catalogue = await stack.enter_async_context(running(to(registry.port)))
            await registry.client.register(REVIEWS)
            assert await services(catalogue) == {"reviews"}
        assert await services(catalogue) == {"reviews"}


async def test_a_registry_that_forgot_is_believed_after_the_lease_time() -> None:
    now = [0.0]
    async with contextlib.AsyncExitStack() as stack:
        async with kit.running() as first:
            port = first.port
            catalogue = await stack.enter_async_context(running(to(port), lambda: now[0]))
            await first.client.register(REVIEWS)
            assert await services(catalogue) == {"reviews"}
        async with kit.running(port=port) as second:
            await second.client.register(Registration("ratings", Endpoint("http", "10.0.0.1:2"), 60))
            await eventually(knows(catalogue, "ratings", "reviews"), within=20)
            now[0] = 61.0
            assert await services(catalogue) == {"ratings"}


def settings(**given: object) -> ControllerSettings:
    return ControllerSettings(**given)  # type: ignore[arg-type]


async def test_an_admin_sees_each_tenant_and_nobody_another() -> None:
    async with kit.running(auth=Auth([Trusted(admin=True)])) as registry:
        url = f"http://127.0.0.1:{registry.port}"
        for tenant in ("blue", "red"):
            http = Http(url, tenant)
            await RegistryClient(http).register(Registration(tenant, Endpoint("http", "10.0.0.1:1"), 60))
            await http.close()
        admin = connecting(settings(registry_url=url, registry_token="admin"))
        async with running(admin) as catalogue:
            assert await services(catalogue, "blue") == {"blue"}
            assert await services(catalogue, "red") == {"red"}
            assert await services(catalogue, "green") == set()
        blue = connecting(settings(registry_url=url, registry_token="blue"))
        async with running(blue) as catalogue:
            assert await services(catalogue, "blue") == {"blue"}
            assert await services(catalogue, "red") is None


def jwt(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("token", "tenant"),
    [
        ("", "default"),
        ("default", "default"),
        ("blue", "blue"),
        ("admin", "admin"),
        (jwt({"namespace": "blue", "exp": 1}), "blue"),
        (jwt({"namespace": "admin"}), "admin"),
        ("a.b", "a.b"),
        ("a.b.c", "a.b.c"),
        (jwt(["admin"]), jwt(["admin"])),
        (jwt({"namespace": 7}), jwt({"namespace": 7})),
    ],
)
def test_whose_a_token_is(token: str, tenant: str) -> None:
    assert whose(token) == tenant


async def test_without_a_registry_nobody_is_connected() -> None:
    assert connecting(settings())("default") is None
