"""A mesh of real processes for tests: registry, controller, and sidecars with small backends.

Everything listens on loopback at ports from the system, keeps its state in the test's folder and is ended
by its own process id.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Answer, Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.model.errors import A8Error
from tests.conftest import eventually, free_port

BIN = Path(sys.executable).parent
BACKEND = Path(__file__).with_name("backend.py")


class Daemon:
    """One real process; its output goes to a file in the state folder."""

    def __init__(
        self, name: str, command: Sequence[str | Path], folder: Path, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = folder / f"{name}.log"
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("A8_")} | dict(
            environ
        )
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=self._environ,
                stdout=output,
                stderr=output,
                stdin=asyncio.subprocess.DEVNULL,
            )

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        assert self.process
        self.process.kill()
        await self.process.wait()

    async def stop(self, within: float = 8.0) -> int:
        """Ask it to end and return its exit code."""
        assert self.process
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                return await self.process.wait()
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"{self.name} did not end within {within:g} s:\n{self.tail()}") from None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


class Sidecar(Daemon):
    """An a8sidecar; with ``backend`` it registers and supervises the test backend.

    ``program`` runs in place of the installed one; ``settings`` are more of its variables.
    """

    def __init__(
        self,
        mesh: "Mesh",
        service: str,
        *,
        backend: bool,
        name: str = "",
        proxy: str = "envoy",
        program: Sequence[str | Path] = (BIN / "a8sidecar",),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.service = service
        self.port = free_port()
        self.admin_port = free_port()
        self.app_port = free_port()
        name = name or f"{service.replace(':', '-').replace(',', '-').replace('=', '-')}-{self.port}"
        environ = {
            "A8_SERVICE": service,
            "A8_PROXY": "true",
            "A8_PROXY_ADAPTER": proxy,
            "A8_HTTP_LISTENER_PORT": str(self.port),
            "A8_ADMIN_PORT": str(self.admin_port),
            "A8_REGISTRY_URL": mesh.registry_url,
            "A8_CONTROLLER_URL": mesh.controller_url,
            "A8_STATE_DIR": str(mesh.folder / name),
            "A8_LOG_LEVEL": "debug",
        }
        command = [str(part) for part in program]
        if backend:
            environ |= {
                "A8_REGISTER": "true",
                "A8_ENDPOINT_HOST": "127.0.0.1",
                "A8_ENDPOINT_PORT": str(self.app_port),
                "PORT": str(self.app_port),
            }
            command += ["--", sys.executable, str(BACKEND)]
        super().__init__(name, command, mesh.folder, environ | dict(settings or {}))
        self.http = Http(f"http://127.0.0.1:{self.port}", connections=64)
        self.admin = Http(f"http://127.0.0.1:{self.admin_port}")

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A call of the app through its sidecar."""
        return await self.http.request("GET", path, expect=range(400, 600), headers=headers)

    async def follows(self, endpoints: set[str]) -> bool:
        """Whether the proxy has taken in all that the agent knows, these endpoints among it."""
        try:
            state = (await self.admin.request("GET", "/state")).json()
            proxy = (await self.admin.request("GET", "/-/status")).json()["proxy"]
        except A8Error:
            return False
        known = {instance["endpoint"]["value"] for instance in state["instances"]}
        return endpoints <= known and bool(proxy["confirmed"] == proxy["desired"])

    async def version(self, path: str, headers: Mapping[str, str] | None = None) -> str:
        """The tags of the backend that answered, joined by commas, or the status as text."""
        answer = await self.get(path, headers)
        return ",".join(answer.json()["tags"]) if answer.status == 200 else str(answer.status)


class Mesh:
    """Registry and controller, and whatever sidecars a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry_port, self.controller_port = free_port(), free_port()
        self.registry_url = f"http://127.0.0.1:{self.registry_port}"
        self.controller_url = f"http://127.0.0.1:{self.controller_port}"
        self.registry = Daemon(
            "registry",
            [BIN / "a8registry"],
            folder,
            {"A8_API_PORT": str(self.registry_port)},
        )
        self.controller = Daemon(
            "controller",
            [BIN / "a8controller"],
            folder,
            {"A8_API_PORT": str(self.controller_port), "A8_DATABASE_PATH": str(folder / "rules.db")},
        )
        self.sidecars: list[Sidecar] = []
        self._registry_http = Http(self.registry_url)
        self._controller_http = Http(self.controller_url)
        self.instances = RegistryClient(self._registry_http)
        self.rules = ControllerClient(self._controller_http)

    async def add(self, service: str, *, backend: bool = True, **more: Any) -> Sidecar:
        """Start a sidecar (with a backend); it may not be ready yet. ``more`` of a ``Sidecar``."""
        sidecar = Sidecar(self, service, backend=backend, **more)
        self.sidecars.append(sidecar)
        await sidecar.start()
        return sidecar

    async def ready(self, *, within: float = 40.0) -> None:
        """Wait until every running sidecar follows the newest Plan and every backend is registered."""
        wanted = [sidecar for sidecar in self.sidecars if sidecar.running]
        backends = {f"127.0.0.1:{s.app_port}" for s in wanted if "--" in s.command}

        async def settled() -> bool:
            try:
                rows = await self.rules.sidecars()
                found = {instance.endpoint.value for instance in await self.instances.instances()}
            except A8Error:
                return False
            applied = [row for row in rows if row.state == "applied"]
            if len(applied) < len(wanted) or not backends <= found:
                return False
            return all([await sidecar.follows(backends) for sidecar in wanted])

        await eventually(settled, within=within, what="all sidecars ready\n" + self.tails())

    def tails(self) -> str:
        daemons: list[Daemon] = [self.registry, self.controller, *self.sidecars]
        return "\n".join(f"--- {daemon.name}\n{daemon.tail()[-1500:]}" for daemon in daemons)

    async def answers(self, http: Http, path: str) -> bool:
        try:
            return (await http.request("GET", path, timeout=2)).status == 200
        except A8Error:
            return False

    async def registry_up(self) -> None:
        await eventually(lambda: self.answers(self._registry_http, "/uptime"), within=20, what="the registry")

    async def controller_up(self) -> None:
        await eventually(
            lambda: self.answers(self._controller_http, "/health"), within=20, what="the controller"
        )

    async def stop(self) -> None:
        daemons = [daemon for daemon in (*self.sidecars, self.controller, self.registry) if daemon.running]
        await asyncio.gather(*(daemon.stop() for daemon in daemons))
        for http in (*(s.http for s in self.sidecars), *(s.admin for s in self.sidecars)):
            await http.close()
        await self._registry_http.close()
        await self._controller_http.close()


@contextlib.asynccontextmanager
async def mesh(folder: Path) -> AsyncIterator[Mesh]:
    """A running registry and controller."""
    made = Mesh(folder)
    await asyncio.gather(made.registry.start(), made.controller.start())
    try:
        await asyncio.gather(made.registry_up(), made.controller_up())
        yield made
    except BaseException:
        sys.stderr.write(made.tails())
        raise
    finally:
        await made.stop()


def route(destination: str, *backends: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """A route rule as a document."""
    return {"destination": destination, "route": {"backends": list(backends)}, **members}


def shown(document: Any) -> str:
    return json.dumps(document, indent=1)
