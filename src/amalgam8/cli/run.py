"""Runs a whole mesh on this machine, as plain processes.

Registry and controller first; then the gateway and, per app, a sidecar that starts it. Ready is when every
instance is registered and every sidecar's proxy follows the rules. Refuses to restart anything: the end of
one process is the end of all, and says which.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from amalgam8.cli import demos, ready, show
from amalgam8.cli.connect import Target
from amalgam8.cli.mesh import App, Mesh
from amalgam8.cli.output import Console
from amalgam8.cli.processes import HOST, Child, Children, Ports, adopt_orphans
from amalgam8.cli.ready import GATEWAY, Missing
from amalgam8.model.errors import A8Error

READY_WITHIN = 60.0
READY_WITHIN_EACH = 5.0
"""Seconds until all must be ready: so many, and so many more for each app."""

SIDECARS_WITHIN = 5.2
SERVERS_WITHIN = 1.8
"""Seconds for an orderly end: of the gateway and sidecars, then of registry and controller."""

POLL_EVERY = 0.2
NAMES_SHOWN = 4

KEPT = ("A8_LOG_LEVEL", "A8_LOG_FORMAT")
"""Of the A8_ variables around us only these are for the mesh; others mean a mesh somewhere else."""


class Died(A8Error):
    """A process of the mesh ended by itself."""

    code = "process_ended"


class NotReady(A8Error):
    """The mesh did not come up in time."""

    code = "not_ready"


class Places(msgspec.Struct, frozen=True):
    """Where the mesh is to be: ports of this machine, and the folder for its state."""

    registry: int
    controller: int
    gateway: int
    proxy: str
    state: Path


class Place(msgspec.Struct, frozen=True):
    """Ports of one sidecar, and of its app (0: it has none)."""

    app: int
    listener: int
    admin: int


def run(mesh: Mesh, places: Places, demo: demos.Demo | None) -> int:
    """Run it until it is told to end; returns 130 after Ctrl-C, 0 after SIGTERM.

    Raises:
        InvalidSetting: a port is taken.
        Died, NotReady: as they say.
    """
    adopt_orphans()
    return asyncio.run(_Run(mesh, places, demo).run())


class _Run:
    """One run, from nothing to nothing."""

    def __init__(self, mesh: Mesh, places: Places, demo: demos.Demo | None) -> None:
        self._mesh = mesh
        self._places = places
        self._demo = demo
        self._ports = Ports()
        self._signals = _Signals()
        names = ["a8ctl", "registry", "controller", "gateway", *(app.label for app in mesh.apps)]
        self._console = Console(
            sys.stdout,
            names,
            colour=show.wants_colour(sys.stdout),
            gone=lambda: self._signals.ask(signal.SIGHUP),
        )
        self._target = Target(
            controller_url=f"http://{HOST}:{places.controller}",
            registry_url=f"http://{HOST}:{places.registry}",
        )
        self._env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("A8_") or name in KEPT
            },
            "PYTHONUNBUFFERED": "1",
        }
        self._ready = False

    async def run(self) -> int:
        outcomes: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as output:
                children = Children(self._console, output, orphans=True)
                self._signals.listen(again=lambda: children.kill(children.all))
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._signals.first())
                        await self._work(children, tasks)
                except* (A8Error, OSError) as group:
                    outcomes += _leaves(group)
                finally:
                    await self._end(children)
        finally:
            self._ports.release_all()
        return self._outcome(outcomes)

    def _outcome(self, outcomes: Sequence[BaseException]) -> int:
        asked = self._signals.number
        if asked is not None:
            return 130 if asked == signal.SIGINT or not self._ready else 0
        # What else went wrong is most likely the consequence of a process that ended.
        for outcome in outcomes:
            if isinstance(outcome, _Ended):
                raise Died(outcome.child.how_it_ended())
        raise outcomes[0]

    async def _work(self, children: Children, tasks: asyncio.TaskGroup) -> None:
        """Start everybody, in order; show where they are once all are ready."""
        apps, gateway = self._allot()
        places, state = self._places, self._places.state
        rows: list[tuple[str, ...]] = []

        async def start(
            label: str, argv: Sequence[str], env: Mapping[str, str], folder: Path, *where: str
        ) -> None:
            child = await children.start(label, argv, env, folder)
            tasks.create_task(_watch(child))
            rows.append((label, *where, str(child.pid)))

        self._console.line("a8ctl", f"starting; state in {state}")
        limit = time.monotonic() + READY_WITHIN + READY_WITHIN_EACH * len(apps)
        await start("registry", self._registry(), self._env, state, self._target.registry_url, "", "")
        await start("controller", self._controller(), self._env, state, self._target.controller_url, "", "")
        await self._until(lambda: ready.servers(self._target), 2, limit)
        await start(
            "gateway",
            self._sidecar(gateway, "gateway", ()),
            self._env_of(None),
            state,
            f"http://localhost:{places.gateway}",
            "",
            f"http://{HOST}:{gateway.admin}",
        )
        for app, place in apps:
            self._ports.release(place.app)
            await start(
                app.label,
                self._sidecar(place, app.label, ("--", *app.command)),
                self._env_of(app, place.app),
                self._mesh.folder,
                *(f"http://{HOST}:{port}" for port in (place.app, place.listener, place.admin)),
            )
        by_port = {place.app: app for app, place in apps}
        await self._until(
            lambda: ready.mesh(self._target, HOST, places.gateway, by_port), len(apps) + 1, limit
        )
        self._ports.release_all()
        self._ready = True
        columns = ("What", "Where", "Its proxy", "Its sidecar's admin port", "Pid")
        services = [app.service for app in self._mesh.apps]
        steps = demos.next_steps(self._demo, services, places.gateway, places.controller)
        self._console.block(f"{show.table(columns, rows)}\n\n{steps}")

    def _allot(self) -> tuple[list[tuple[App, Place]], Place]:
        """Ports for everybody; those asked for first, so that no other takes them."""
        places = self._places
        self._ports.this(places.registry, "registry")
        self._ports.this(places.controller, "controller")
        self._ports.this(places.gateway, "gateway")
        fixed = {app.label: self._ports.this(app.port, app.label) for app in self._mesh.apps if app.port}
        apps = [
            (app, Place(fixed.get(app.label) or self._ports.any(), self._ports.any(), self._ports.any()))
            for app in self._mesh.apps
        ]
        return apps, Place(0, places.gateway, self._ports.any())

    def _registry(self) -> list[str]:
        return _daemon("registry", listen_host=HOST, api_port=self._places.registry)

    def _controller(self) -> list[str]:
        database = self._places.state / "controller.sqlite"
        return _daemon(
            "controller",
            listen_host=HOST,
            api_port=self._places.controller,
            database_type="sqlite",
            database_path=database,
            registry_url=self._target.registry_url,
        )

    def _sidecar(self, place: Place, label: str, command: Sequence[str]) -> list[str]:
        """Its command line, without what stands in ``_env_of``."""
        registers = (
            {"register": "true", "endpoint_host": HOST, "endpoint_port": place.app, "endpoint_type": "http"}
            if place.app
            else {}
        )
        folder = self._places.state / "sidecars" / label
        return [
            *_daemon(
                "sidecar",
                **registers,
                proxy="true",
                proxy_adapter=self._places.proxy,
                listen_host=HOST,
                http_listener_port=place.listener,
                admin_port=place.admin,
                registry_url=self._target.registry_url,
                controller_url=self._target.controller_url,
                state_dir=folder,
            ),
            *command,
        ]

    def _env_of(self, app: App | None, port: int = 0) -> dict[str, str]:
        """A sidecar's environment, which is its app's as well: A8_SERVICE is for both of them."""
        if app is None:
            return {**self._env, "A8_SERVICE": GATEWAY}
        return {**self._env, **app.env, "A8_SERVICE": app.name, "HOST": HOST, "PORT": str(port)}

    async def _until(self, ask: Callable[[], Awaitable[Missing]], count: int, limit: float) -> None:
        """Ask until nobody is missing; show how it goes."""
        before = -1
        while missing := await ask():
            if time.monotonic() > limit:
                who = "; ".join(f"{label}: {what}" for label, what in missing.items())
                raise NotReady(f"not ready in time: {who}")
            if len(missing) != before:
                before = len(missing)
                more = f" and {before - NAMES_SHOWN} more" if before > NAMES_SHOWN else ""
                names = ", ".join(list(missing)[:NAMES_SHOWN]) + more
                self._console.line("a8ctl", f"{max(count - before, 0)} of {count} ready; waiting for {names}")
            await asyncio.sleep(POLL_EVERY)

    async def _end(self, children: Children) -> None:
        """Sidecars first, while there is a registry to deregister from."""
        servers = [child for child in children.all if child.label in ("registry", "controller")]
        others = [child for child in children.all if child not in servers]
        if any(child.running for child in children.all):
            self._console.line("a8ctl", "ending")
        await children.stop(others, SIDECARS_WITHIN)
        await children.stop(servers, SERVERS_WITHIN)
        await children.drain()


class _Ended(A8Error):
    def __init__(self, child: Child) -> None:
        super().__init__(child.label)
        self.child = child


class _Asked(A8Error):
    """A signal asked for the end."""


class _Signals:
    """The first signal ends the run, each further one kills what is left."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._event = asyncio.Event()
        self._again: Callable[[], None] = lambda: None

    def listen(self, again: Callable[[], None]) -> None:
        self._again = again
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask, number)

    def ask(self, number: int) -> None:
        if self.number is not None:
            self._again()
            return
        self.number = number
        self._event.set()

    async def first(self) -> None:
        await self._event.wait()
        raise _Asked


async def _watch(child: Child) -> None:
    await child.process.wait()
    raise _Ended(child)


def _daemon(which: str, **flags: object) -> list[str]:
    """A command line of one of our daemons, in the Python that runs this.

    -P: the folder that an app runs in is no place to look for modules of ours.
    """
    start = f"import sys; from amalgam8.{which}.main import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", start, *(f"--{name}={value}" for name, value in flags.items())]


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
