"""The agent with everything but the proxy real: order of start and end, data flow, exit codes."""

import asyncio
import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting
from amalgam8.routing.plan import DestinationPlan, PlanBackend, RouteEntry
from amalgam8.sidecar import agent
from amalgam8.sidecar.proxy import Proxy
from amalgam8.sidecar.settings import Settings
from tests.conftest import eventually, free_port
from tests.sidecar.support import StandInProxy
from tests.wire import ControllerStandIn, Instances, Parts, RegistryStandIn, instance, served

APP = """
import os, signal, socket, sys, threading
def end(*_):
    print("ended", file=open(sys.argv[2], "a")); os._exit(0)
signal.signal(signal.SIGTERM, end)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", os.environ.get("A8_PROXY_URL", ""), file=open(sys.argv[2], "a"))
while True:
    listener.accept()[0].close()
"""
PINNED = DestinationPlan(routes=(RouteEntry(rule="r1", backends=(PlanBackend("reviews", ("v2",)),)),))


class Mesh:
    """Stand-ins for registry and controller, a stand-in proxy, and one agent."""

    def __init__(self, folder: Path) -> None:
        self.registry = RegistryStandIn(Instances("e", [instance("reviews", 1, "v2")]))
        self.controller = ControllerStandIn(Parts("e", {"reviews": PINNED}))
        self.app_port, self.proxy_port = free_port(), free_port()
        self.proxy = StandInProxy(self.proxy_port)
        self.log = folder / "app.log"
        self.folder = folder / "state"
        self.settings = Settings(state_dir=self.folder, admin_port=0, drain=0.0)

    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-S", "-c", APP, str(self.app_port), str(self.log))

    def make_proxy(self, settings: Settings, folder: Path) -> Proxy:
        assert (settings.http_listener_port, folder) == (self.proxy_port, self.folder)
        return self.proxy

    @contextlib.asynccontextmanager
    async def servers(self) -> AsyncIterator[None]:
        async with served(self.registry.app) as registry, served(self.controller.app) as controller:
            self.settings = dataclasses.replace(
                self.settings,
                service=Caller("web", ("v1",)),
                registry_url=f"http://127.0.0.1:{registry}",
                controller_url=f"http://127.0.0.1:{controller}",
                registry_token="r-token",
                endpoint_host="127.0.0.1",
                endpoint_port=self.app_port,
                http_listener_port=self.proxy_port,
            )
            yield

    def run(self, *command: str, **settings: object) -> asyncio.Task[int]:
        chosen = dataclasses.replace(self.settings, **settings)  # type: ignore[arg-type]
        return asyncio.create_task(agent.run(chosen, command, self.make_proxy))


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


async def until(check: Callable[[], object], what: str = "") -> None:
    async def found() -> bool:
        return bool(check())

    await eventually(found, what=what)


async def ended(task: asyncio.Task[int]) -> int:
    async with asyncio.timeout(15):
        return await task


async def cancelled(task: asyncio.Task[int]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(task)


async def test_from_both_streams_to_the_proxy_and_back_to_the_controller(mesh: Mesh) -> None:
    async with mesh.servers():
        task = mesh.run(proxy=True)
        await until(lambda: mesh.controller.reports and mesh.controller.reports[-1][1].plan.revision == 1)
        routing = mesh.proxy.desired.value.routing
        assert [peer.id for peer in routing["reviews"].peers[routing["reviews"].routes[0].slices[0].target]]
        identity, report = mesh.controller.reports[-1]
        assert (mesh.folder / "sidecar-id").read_text().strip() == identity
        assert (report.service, report.tags, report.proxy, report.key) == (
            "web",
            ("v1",),
            "stand-in",
            "the-key",
        )
        assert mesh.registry.tokens == ["Bearer r-token"]
        mesh.controller.told.change({}, "reviews")
        await until(lambda: mesh.controller.reports[-1][1].plan.revision == 2)
        assert mesh.proxy.desired.value.routing["reviews"].routes[0].rule == ""
        assert mesh.registry.calls == []  # it was not asked to register
        await cancelled(task)
        assert not mesh.proxy.running


async def test_the_end_deregisters_first_then_ends_the_app_then_the_proxy(mesh: Mesh) -> None:
    async with mesh.servers():
        task = mesh.run(*mesh.command(), proxy=True, register=True)
        await until(lambda: "register" in mesh.registry.names())
        assert mesh.log.read_text() == f"up http://127.0.0.1:{mesh.proxy_port}\n"
        order: list[str] = []

        def note(event: str) -> None:
            order.append(f"{event}, app {'ended' if 'ended' in mesh.log.read_text() else 'alive'}")

        mesh.registry.deregistering = lambda: note("deregistered")
        mesh.proxy.ending = lambda: note("proxy ending")
        await cancelled(task)
        assert order == ["deregistered, app alive", "proxy ending, app ended"]
        assert not mesh.proxy.running
        assert mesh.registry.names() == ["register", "deregister"]


async def test_an_app_that_ends_takes_its_registration_along(mesh: Mesh) -> None:
    async with mesh.servers():
        task = mesh.run(*mesh.command(), register=True)
        await until(lambda: "register" in mesh.registry.names())
        pid = await app_pid(mesh.app_port)
        os.kill(pid, signal.SIGKILL)
        assert await ended(task) == 128 + signal.SIGKILL
        assert mesh.registry.names() == ["register", "deregister"]


async def app_pid(port: int) -> int:
    """The child of this process that has ``port`` among its arguments."""
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and f"\0{port}\0".encode() in (path / "cmdline").read_bytes():
                return int(path.name)
    raise AssertionError("no such process")


async def test_the_apps_code_is_the_agents(mesh: Mesh) -> None:
    assert await ended(mesh.run("sh", "-c", 'test -z "$A8_PROXY_URL" && exit 7')) == 7


async def test_an_app_that_does_not_start_is_not_registered(mesh: Mesh) -> None:
    async with mesh.servers():
        assert await ended(mesh.run("sh", "-c", "exit 3", register=True)) == 3
        assert mesh.registry.calls == []


async def test_a_proxy_that_cannot_start_ends_all_with_its_sentence(mesh: Mesh) -> None:
    mesh.proxy.failure = InvalidSetting("http_listener_port: port 6379 on 127.0.0.1 is already taken")
    async with mesh.servers():
        with pytest.RaisesGroup(InvalidSetting, flatten_subgroups=True, allow_unwrapped=True) as refused:
            await ended(mesh.run("sleep", "600", proxy=True))
        assert "6379" in repr(refused.value.exceptions)


async def test_a_folder_in_use_is_refused(mesh: Mesh) -> None:
    async with mesh.servers():
        first = mesh.run(proxy=True)
        await until(lambda: mesh.proxy.running)
        with pytest.raises(InvalidSetting, match=r"state_dir: .* in use by another sidecar"):
            await ended(mesh.run(proxy=True))
        await cancelled(first)


async def test_a_taken_admin_port_is_refused(mesh: Mesh) -> None:
    async with served(mesh.registry.app) as port:
        with pytest.raises(InvalidSetting, match=f"admin_port: port {port} on 127.0.0.1 is already taken"):
            await ended(mesh.run("true", admin_port=port))


async def test_bad_combinations_and_commands_are_refused_before_anything_starts(mesh: Mesh) -> None:
    with pytest.raises(InvalidSetting, match="nothing to do"):
        await ended(mesh.run())
    with pytest.raises(InvalidSetting, match="is not there"):
        await ended(mesh.run("no-such-program"))
    assert not mesh.folder.exists()
