"""``a8sidecar`` as a process, with the real Envoy: exit codes, refusals, signals, and traffic."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amalgam8.clients.http import Http, Refusal
from amalgam8.model.errors import Unreachable
from amalgam8.model.instance import Instance
from amalgam8.routing.plan import DestinationPlan, PlanBackend, RouteEntry
from amalgam8.sidecar.main import make_proxy
from amalgam8.sidecar.settings import Settings
from tests.conftest import eventually, free_port
from tests.sidecar.support import Sidecar, sidecar
from tests.sidecar.test_launch import alive
from tests.wire import ControllerStandIn, Instances, Parts, RegistryStandIn, instance, served

BACKEND = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = (sys.argv[2] + " " + self.path).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("pid", os.getpid(), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

NOWHERE = ("--registry-url=http://127.0.0.1:1", "--controller-url=http://127.0.0.1:1")


def pinned(tag: str) -> DestinationPlan:
    return DestinationPlan(routes=(RouteEntry(rule="r1", backends=(PlanBackend("reviews", (tag,)),)),))


def backend(port: int, name: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", BACKEND, str(port), name)


async def ended(running: Sidecar) -> int:
    async with asyncio.timeout(20):
        return await running.process.wait()


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ((), 2, "a8sidecar: nothing to do"),
        (("--proxy-adapter=haproxy",), 2, "envoy or nginx"),
        (("--no-such",), 2, "no such flag"),
        (("no-such-program",), 2, "no-such-program is not there"),
        (("--state-dir=/proc/nowhere", "true"), 2, "state_dir: /proc/nowhere cannot be written"),
        (
            ("--proxy", *NOWHERE, "--proxy-binary=/no/such/envoy"),
            2,
            "/no/such/envoy",
        ),
    ],
)
async def test_mistakes_are_one_line_and_exit_code_2(
    tmp_path: Path, argv: tuple[str, ...], code: int, words: str
) -> None:
    async with sidecar(tmp_path, *argv) as running:
        assert await ended(running) == code
    said = [line for line in running.lines if line.startswith("a8sidecar: ")]
    assert len(said) == 1
    assert words in said[0]
    assert not any("Traceback" in line for line in running.lines)


async def test_a_taken_proxy_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with sidecar(tmp_path, "--proxy", *NOWHERE, f"--http-listener-port={port}") as running:
            assert await ended(running) == 2
    assert any(str(port) in line and line.startswith("a8sidecar: ") for line in running.lines)
    assert not any("Traceback" in line for line in running.lines)


async def test_the_apps_exit_code_passes_through(tmp_path: Path) -> None:
    async with sidecar(tmp_path, "sh", "-c", "exit 42") as running:
        assert await ended(running) == 42


async def test_a_signal_ends_it_and_the_app_with_code_0(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with sidecar(tmp_path, *backend(free_port(), "x")) as running:
            await running.wrote("pid ")
            pid = int(next(line for line in running.lines if line.startswith("pid")).split()[1])
            assert await running.end(number) == 0
            assert not alive(pid)


async def test_a_killed_sidecar_takes_the_app_along(tmp_path: Path) -> None:
    async with sidecar(tmp_path, *backend(free_port(), "x")) as running:
        await running.wrote("pid ")
        pid = int(next(line for line in running.lines if line.startswith("pid")).split()[1])
        os.kill(running.process.pid, signal.SIGKILL)

        async def gone() -> bool:
            return not alive(pid)

        await eventually(gone)


def test_the_proxy_is_the_one_that_is_named(tmp_path: Path) -> None:
    assert make_proxy(Settings(), tmp_path).name == "envoy"


class Mesh:
    """Two versions of reviews behind their own sidecars, and a gateway with Envoy."""

    def __init__(self) -> None:
        self.registry = RegistryStandIn(Instances("e"))
        self.controller = ControllerStandIn(Parts("e"))
        self.port = free_port()
        self.registry_url = ""

    @contextlib.asynccontextmanager
    async def running(self, tmp_path: Path) -> AsyncIterator[tuple[Sidecar, Http]]:
        async with served(self.registry.app) as registry, served(self.controller.app) as controller:
            self.registry_url = f"http://127.0.0.1:{registry}"
            urls = (
                f"--registry-url={self.registry_url}",
                f"--controller-url=http://127.0.0.1:{controller}",
            )
            proxy = ("--proxy", f"--http-listener-port={self.port}", "--service=gateway")
            async with sidecar(tmp_path / "gateway", *proxy, *urls) as gateway:
                http = Http(f"http://127.0.0.1:{self.port}")
                try:
                    yield gateway, http
                finally:
                    await http.close()

    def registered(self, port: int, *tags: str) -> Instance:
        """Tell the gateway of an instance that has registered."""
        assert any(body.endpoint.value == f"127.0.0.1:{port}" for body in self.registry.live.values())
        one = instance("reviews", port, *tags)
        self.registry.told.change(one)
        return one


async def answers(http: Http, path: str, wanted: set[str], status: int = 200) -> None:
    async def same() -> bool:
        seen = set()
        for _ in range(4):
            try:
                answer = await http.request("GET", path, expect=range(400, 600))
            except Unreachable:  # Envoy does not listen yet
                return False
            seen.add(answer.body.decode() if status == 200 else "")
            if answer.status != status:
                return False
        return seen == wanted

    await eventually(same, within=20, what=f"{path}: {status} {wanted}")


async def test_from_a_rule_to_traffic_through_envoy(tmp_path: Path) -> None:
    mesh, ports = Mesh(), (free_port(), free_port())
    async with mesh.running(tmp_path) as (gateway, http), contextlib.AsyncExitStack() as apps:
        await answers(http, "/reviews/1", {""}, 404)
        for port, tag in zip(ports, ("v1", "v2"), strict=True):
            argv = ("--register", f"--service=reviews:{tag}", "--endpoint-host=127.0.0.1", "--drain=0")
            url = f"--registry-url={mesh.registry_url}"
            one = await apps.enter_async_context(
                sidecar(tmp_path / tag, *argv, url, f"--endpoint-port={port}", *backend(port, tag))
            )
            await one.wrote("registered id=")
            mesh.registered(port, tag)
        await answers(http, "/reviews/1", {"v1 /1", "v2 /1"})
        mesh.controller.told.change({"reviews": pinned("v2")})
        await answers(http, "/reviews/1", {"v2 /1"})
        mesh.controller.told.change({"reviews": pinned("v3")})
        await answers(http, "/reviews/1", {""}, 503)
        mesh.controller.told.change({}, "reviews")
        await answers(http, "/reviews/1", {"v1 /1", "v2 /1"})

        async def confirmed() -> bool:
            return bool(mesh.controller.reports) and mesh.controller.reports[-1][1].plan.revision == 4

        await eventually(confirmed)
        status = await gateway.status()
        assert status["proxy"]["confirmed"] == status["proxy"]["desired"]
        assert len((await gateway.get("/state"))["instances"]) == 2
        assert await gateway.end(signal.SIGTERM) == 0


async def test_without_registry_and_controller_it_answers_503_and_waits(tmp_path: Path) -> None:
    port = free_port()
    urls = (
        f"--registry-url=http://127.0.0.1:{free_port()}",
        f"--controller-url=http://127.0.0.1:{free_port()}",
    )
    argv = ("--proxy", f"--http-listener-port={port}", *urls, "--log-format=json")
    async with sidecar(tmp_path, *argv) as running:
        http = Http(f"http://127.0.0.1:{port}")

        async def refused() -> bool:
            with contextlib.suppress(Unreachable, Refusal):
                return (await http.request("GET", "/reviews", expect=(503,))).status == 503
            return False

        await eventually(refused, within=20)
        await http.close()
        assert await running.end(signal.SIGTERM) == 0
    warnings = [json.loads(line) for line in running.lines if '"level": "warning"' in line]
    assert sorted(str(entry.get("whom")) for entry in warnings) == ["the controller", "the registry"]
