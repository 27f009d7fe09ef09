"""Endpoints beyond plain HTTP at an address: host names beside addresses, and TCP, in a whole mesh."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.clients.registry import Registration
from amalgam8.model.instance import Endpoint
from tests.conftest import eventually, free_port
from tests.e2e.mesh import Mesh, Sidecar, mesh, route

pytestmark = pytest.mark.timeout(240)


@contextlib.asynccontextmanager
async def greeter(name: str) -> AsyncIterator[int]:
    """A server that says its name and closes; its port."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def greeted(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        name = (await reader.read()).decode()
    writer.close()
    return name


async def register(running: Mesh, service: str, kind: str, value: str, *tags: str) -> None:
    await running.instances.register(Registration(service, Endpoint(kind, value), 60, "UP", tags))


async def shares(sidecar: Sidecar, calls: int) -> Counter[str]:
    """How many of so many calls came to each Host."""
    found: Counter[str] = Counter()
    for _ in range(calls):
        answer = await sidecar.get("/reviews/x")
        assert answer.status == 200
        found[dict(answer.json()["headers"])["host"].partition(":")[0]] += 1
    return found


async def test_a_service_has_instances_with_names_and_with_addresses(tmp_path: Path) -> None:
    async with mesh(tmp_path) as running:
        named = await running.add("reviews:v1", settings={"A8_ENDPOINT_HOST": "localhost"})
        plain = await running.add("reviews:v1")
        web = await running.add("web", backend=False)

        async def all_there() -> bool:
            rows = await running.rules.sidecars()
            values = {f"localhost:{named.app_port}", f"127.0.0.1:{plain.app_port}"}
            return len(rows) == 3 and await web.follows(values)

        await eventually(all_there, within=40)

        async def looked_up() -> bool:
            return "localhost" in (await web.admin.request("GET", "/-/status")).json()["proxy"]["names"]

        await eventually(looked_up, within=10)
        await eventually(lambda: answers_from(web, {"localhost", "127.0.0.1"}), within=10)
        found = await shares(web, 40)
        assert found["localhost"] == 20, found

        # A name that nobody can look up changes nothing, and a rule is applied all the same.
        await register(running, "reviews", "http", "no.such.name.invalid:80", "v1")
        await register(running, "lonely", "http", "no.such.name.invalid:80")
        await running.rules.create([route("reviews", {"tags": ["v1"]}, id="r")])

        async def applied() -> bool:
            rows = await running.rules.sidecars()
            return {row.state for row in rows} == {"applied"} and await web.follows(
                {"no.such.name.invalid:80"}
            )

        await eventually(applied, within=30)
        assert (await shares(web, 40))["localhost"] == 20
        assert (await web.get("/lonely/x")).status == 503


async def answers_from(sidecar: Sidecar, hosts: set[str]) -> bool:
    return set(await shares(sidecar, 10)) == hosts


async def test_tcp_proxies_follow_rules_and_live_without_registry_and_controller(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    async with mesh(tmp_path) as running, greeter("one") as one, greeter("two") as two:
        await register(running, "db", "tcp", f"127.0.0.1:{one}", "v1")
        await register(running, "db", "tcp", f"localhost:{two}", "v2")
        settings = {"A8_TCP_PROXIES": f"{first}=db,{second}=db:v2"}
        web = await running.add("web", backend=False, settings=settings)
        await running.ready()

        async def ends(port: int, names: set[str]) -> bool:
            return {await greeted(port) for _ in range(10)} == names

        await eventually(lambda: ends(first, {"one", "two"}), within=20)
        assert await ends(second, {"two"})
        only_web = {"match": {"source": {"name": "web"}}}
        await running.rules.create([route("db", {"tags": ["v1"]}, id="v1", **only_web)])
        await eventually(lambda: ends(first, {"one"}), within=20)
        assert await ends(second, {"two"})
        fault = {"id": "slow", "destination": "db", "actions": [{"action": "delay", "duration": 1}]}
        deny = {"id": "no", "destination": "db", "actions": [{"action": "deny"}]}
        await running.rules.create([fault])

        async def said() -> bool:
            status = (await web.admin.request("GET", "/-/status")).json()["proxy"]["tcp"]
            return {"rule": "slow", "why": "a delay or an abort is for requests"} in status[0]["unfit"]

        await eventually(said, within=20)
        await running.rules.create([deny])
        await eventually(lambda: ends(first, {""}), within=20)
        assert await ends(second, {""})
        await running.rules.delete(ids=["no"])
        await eventually(lambda: ends(first, {"one"}), within=20)
        await running.registry.kill()
        await running.controller.kill()
        assert await ends(first, {"one"})
