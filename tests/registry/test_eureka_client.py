"""A real client of Eureka against a real registry: it registers, renews, discovers, and leaves."""

import asyncio
import contextlib
import json
import sys
import urllib.error
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from py_eureka_client import eureka_basic

from amalgam8.clients.http import Http
from tests.conftest import eventually
from tests.registry.test_main import HERE, end, registry

PROGRAM = Path(__file__).with_name("eureka_program.py")
A8: dict[str, Any] = {
    "service_name": "details",
    "endpoint": {"type": "http", "value": "10.0.0.7:9080"},
    "ttl": 600,
    "tags": ["v1"],
}


class Beside:
    """A registry that runs, and what it knows of the client."""

    def __init__(self, port: int, http: Http) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.http = http

    async def known(self) -> Any:
        answer = await self.http.request("GET", "/api/v1/services/orders", expect=[404])
        return answer.status == 200 and answer.json()["instances"][0]

    async def unknown(self) -> bool:
        return not await self.known()


@pytest.fixture
async def beside() -> AsyncIterator[Beside]:
    async with registry("--min-ttl", "1s") as (_, port):
        http = Http(f"http://127.0.0.1:{port}")
        try:
            yield Beside(port, http)
        finally:
            await http.close()


@contextlib.asynccontextmanager
async def client(base: str, interval: int, duration: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(PROGRAM), base, str(interval), str(duration)),
        env=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert await line(process) == "started"
        yield process
    finally:
        await end(process)


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode().strip()


@pytest.mark.parametrize("path", ["/eureka", "/eureka/v2/"])
async def test_it_registers_discovers_and_leaves(beside: Beside, path: str) -> None:
    await beside.http.request("POST", "/api/v1/instances", A8)
    async with client(beside.url + path, 1, 30) as process:
        found = await eventually(beside.known, what="the registration")
        assert (found["id"], found["tags"]) == ("orders:host-1:orders:7000", ["v2"])
        assert found["endpoint"] == {"type": "tcp", "value": "127.0.0.1:7000"}
        assert json.loads(await line(process)) == ["10.0.0.7", 9080, True, {"amalgam8.tags": "v1"}]
        await beside.http.request("POST", "/api/v1/instances", {**A8, "service_name": "late"})
        assert json.loads(await line(process))[0] == "10.0.0.7"
        metrics = (await beside.http.request("GET", "/metrics")).body.decode()
        assert f'route="{path.rstrip("/")}/apps/delta"' in metrics
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    assert await beside.unknown()


async def test_it_registers_again_after_its_lease_has_ended(beside: Beside) -> None:
    async with client(f"{beside.url}/eureka", 3, 1):
        for _ in range(2):
            await eventually(beside.known, within=20, what="a registration")
            await eventually(beside.unknown, within=20, what="expiry")
        await eventually(beside.known, within=20, what="a registration")
        metrics = (await beside.http.request("GET", "/metrics")).body.decode()
        assert 'method="PUT",route="/eureka/apps/{app}/{id}",status="404"' in metrics


async def test_each_call_of_its_library(beside: Beside) -> None:
    base, app, key = f"{beside.url}/eureka", "ORDERS", "host-1:orders:7000"
    one = eureka_basic.Instance(
        instanceId=key,
        app=app,
        hostName="127.0.0.1",
        ipAddr="127.0.0.1",
        port=eureka_basic.PortWrapper(port=7000, enabled=True),
        vipAddress="orders.vip",
        secureVipAddress="orders.svip",
        status="UP",
        leaseInfo=eureka_basic.LeaseInfo(durationInSecs=30),
    )
    await eureka_basic.register(base, one)
    await eureka_basic.send_heartbeat(base, app, key, 0)
    for found in (
        await eureka_basic.get_applications(base),
        await eureka_basic.get_vip(base, "orders.vip"),
        await eureka_basic.get_secure_vip(base, "orders.svip"),
    ):
        assert [application.name for application in found.applications] == [app]
        assert found.appsHashcode == "UP_1_"
    assert (await eureka_basic.get_application(base, "orders")).up_instances[0].ipAddr == "127.0.0.1"
    await eureka_basic.status_update(base, app, key, 0, "OUT_OF_SERVICE")
    shown = await eureka_basic.get_app_instance(base, app, key)
    assert (shown.status, shown.overriddenstatus) == ("OUT_OF_SERVICE", "OUT_OF_SERVICE")
    await eureka_basic.delete_status_override(base, app, key, 0)
    assert (await eureka_basic.get_app_instance(base, app, key)).status == "UP"
    await eureka_basic.cancel(base, app, key)
    for write in (eureka_basic.send_heartbeat(base, app, key, 0), eureka_basic.cancel(base, app, key)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            await write
        assert caught.value.code == 404
        caught.value.close()
