from typing import Any

import pytest

from amalgam8.cli import ready
from amalgam8.cli.connect import Target
from amalgam8.cli.mesh import App
from tests.cli.standin import StandIn
from tests.conftest import free_port

HOST = "127.0.0.1"


def app(label: str, service: str, *tags: str) -> App:
    return App(label, service, tags, ("x",), 0, {})


def instance(service: str, port: int, status: str = "UP") -> dict[str, Any]:
    endpoint = {"type": "http", "value": f"{HOST}:{port}"}
    return {"id": f"{service}{port}", "service_name": service, "endpoint": endpoint, "status": status}


def sidecar(name: str, state: str = "applied", reason: str = "") -> dict[str, Any]:
    service, _, tags = name.partition(":")
    return {
        "id": name,
        "service": service,
        "tags": sorted(tags.split(",")) if tags else [],
        "proxy": "envoy",
        "revision": 1,
        "state": state,
        "reason": reason,
        "age": 1.0,
    }


APPS = {1: app("a.1", "a", "v1", "b"), 2: app("a.2", "a", "v1", "b")}
INSTANCES = [instance("a", 1), instance("a", 2)]
SIDECARS = [sidecar("a:v1,b"), sidecar("a:b,v1"), sidecar("gateway:version=none")]


async def missing(server: StandIn, instances: list[Any], sidecars: list[Any]) -> ready.Missing:
    server.answers[("GET", "/api/v1/instances")] = {"instances": instances}
    server.answers[("GET", "/v1/sidecars")] = {"sidecars": sidecars}
    port = int(server.url.rpartition(":")[2])
    return await ready.mesh(Target(server.url, "", server.url), HOST, port, APPS)


async def test_all_there(server: StandIn) -> None:
    assert await missing(server, INSTANCES, SIDECARS) == {}


@pytest.mark.parametrize(
    ("instances", "sidecars", "found"),
    [
        (INSTANCES[:1], SIDECARS, {"a.2": "not registered"}),
        ([INSTANCES[0], instance("a", 2, "STARTING")], SIDECARS, {"a.2": "not registered"}),
        (INSTANCES, SIDECARS[1:], {"a.2": "its proxy has not reported"}),
        (INSTANCES, [*SIDECARS[1:], sidecar("a:v1,b", "pending")], {"a.2": "its proxy is pending"}),
        (
            INSTANCES,
            [*SIDECARS[1:], sidecar("a:v1,b", "rejected", "r")],
            {"a.2": "its proxy is rejected (r)"},
        ),
        (INSTANCES, SIDECARS[:2], {"gateway": "its proxy has not reported"}),
    ],
)
async def test_who_is_missing(server: StandIn, instances: Any, sidecars: Any, found: ready.Missing) -> None:
    assert await missing(server, instances, sidecars) == found


async def test_servers_that_do_not_answer(server: StandIn) -> None:
    server.answers[("GET", "/v1/sidecars")] = {"sidecars": []}
    nobody = f"http://{HOST}:{free_port()}"
    assert await ready.servers(Target(server.url, "", nobody)) == {"registry": "does not answer"}
    assert await ready.mesh(Target(nobody, "", nobody), HOST, 1, APPS) == {
        "registry": "does not answer",
        "controller": "does not answer",
    }
