"""The agent: puts the parts together, starts them in order, and ends them in order.

Start: admin port, proxy, app, registration. End, within END_WITHIN: deregister, let calls in flight
finish, end the app, end the proxy. The app's own end is the agent's, with the app's exit code. Refuses to
do any part's work.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.clients.registry import RegistryClient
from amalgam8.clients.tls import client_context
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar import state, supervise
from amalgam8.sidecar.admin import Admin, Driven
from amalgam8.sidecar.endpoint import endpoint_of, until_accepting
from amalgam8.sidecar.follow import Follower
from amalgam8.sidecar.names import Names
from amalgam8.sidecar.proxy import Proxy
from amalgam8.sidecar.registration import Registration
from amalgam8.sidecar.report import Reporter
from amalgam8.sidecar.routing import Join
from amalgam8.sidecar.settings import Settings, checked
from amalgam8.sidecar.tcp import Connections, pins
from amalgam8.web.serve import bind, serving

ADMIN_HOST = "127.0.0.1"
END_WITHIN = 3.5
"""Seconds until the app is killed at the latest; the rest of the 5 s is the proxy's."""

PROXY_WITHIN = 8.0
"""Seconds for which the app's start waits for the proxy to listen."""

ProxyMaker = Callable[[Settings, Path], Proxy]

_log = Log("sidecar")


async def run(settings: Settings, command: tuple[str, ...], make_proxy: ProxyMaker) -> int:
    """Run a sidecar until it is cancelled or its app ends; returns the app's exit code.

    Raises:
        InvalidSetting: something is missing, contradicts itself, or cannot be had on this machine.
    """
    checked(settings, command)
    if command:
        supervise.startable(command)
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(state.held(settings.state_folder()))
        listener = stack.enter_context(bind(ADMIN_HOST, settings.admin_port, "admin_port"))
        agent = Agent(settings, command, folder, make_proxy, stack)
        port = await stack.enter_async_context(serving(agent.admin.app, listener))
        _log.info("the sidecar is up", service=settings.own_service, admin_port=port, state_dir=folder)
        return await agent.run()


class Agent:
    """What the settings ask for, put together. ``stack`` closes what the agent opens."""

    def __init__(
        self,
        settings: Settings,
        command: tuple[str, ...],
        folder: Path,
        make_proxy: ProxyMaker,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._command = command
        self._identity = state.identity(folder)
        self._tls = client_context(settings.ca_cert, settings.client_cert, settings.client_key)
        self._background: list[Coroutine[Any, Any, None]] = []
        self._registry: RegistryClient | None = None
        if settings.registry_url:
            registry = Http(settings.registry_url, settings.registry_token, tls=self._tls)
            stack.push_async_callback(registry.close)
            self._registry = RegistryClient(registry)
        self._driven = self._drive(make_proxy, folder, stack) if settings.proxy else None
        self._registration = self._registered() if settings.register else None
        self.admin = Admin(self._identity, settings.own_service, self._driven, self._registration)

    async def run(self) -> int:
        """Until cancelled, or the app ends; returns its exit code."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(work) for work in self._background]
            app: supervise.App | None = None
            registering: asyncio.Task[None] | None = None
            try:
                if self._command:
                    app = await self._start_app()
                if self._registration:
                    registering = tasks.create_task(self._registration.run())
                return await (app.wait() if app else asyncio.get_running_loop().create_future())
            finally:
                await self._end(app, registering)
                for task in background:
                    task.cancel()

    def _drive(self, make_proxy: ProxyMaker, folder: Path, stack: contextlib.AsyncExitStack) -> Driven:
        """The proxy, and what feeds it and tells of it."""
        settings = self._settings
        assert self._registry is not None  # noqa: S101 - ``checked`` saw to it
        http = Http(settings.controller_url, settings.controller_token, tls=self._tls)
        stack.push_async_callback(http.close)
        controller = ControllerClient(http)
        proxy = make_proxy(settings, folder)
        follower = Follower()
        names = Names(follower.seen, follower.take_names, self._identity)
        join = Join(follower.seen, proxy.desired, pins=pins(settings.tcp_proxies))
        connections = Connections(settings.tcp_proxies, proxy.desired)
        reporter = Reporter(
            controller, self._identity, settings.own_service, proxy.name, proxy.confirmed, follower.key
        )
        watch = controller.watch_plan(self._identity, settings.own_service)
        self._background += [
            proxy.run(),
            join.run(),
            names.run(),
            connections.run(),
            follower.follow_registry(self._registry.watch()),
            follower.follow_controller(watch),
            reporter.run(),
        ]
        return Driven(proxy, follower, join, reporter, names, connections)

    def _registered(self) -> Registration:
        settings = self._settings
        assert self._registry is not None  # noqa: S101 - ``checked`` saw to it
        endpoint = endpoint_of(settings.endpoint_type, settings.endpoint_host, settings.endpoint_port)
        epochs = self._driven.follower.registry_epoch if self._driven else Latest("")
        own = settings.own_service
        return Registration(self._registry, own.service, own.tags, endpoint, epochs)

    async def _start_app(self) -> supervise.App:
        """Start it once the proxy listens, so that its first calls find somebody who answers."""
        if not self._driven:
            return await supervise.start(self._command, {})
        host, port = self._settings.listen_host, self._settings.http_listener_port
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        try:
            async with asyncio.timeout(PROXY_WITHIN):
                await until_accepting(host, port)
        except TimeoutError:
            _log.warning("the proxy does not listen yet, starting the app nevertheless", port=port)
        shown = f"[{host}]" if ":" in host else host
        return await supervise.start(self._command, {"A8_PROXY_URL": f"http://{shown}:{port}"})

    async def _end(self, app: supervise.App | None, registering: asyncio.Task[None] | None) -> None:
        """In this order, so that no call goes to an instance that is ending."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + END_WITHIN
        if registering is not None and self._registration is not None:
            registering.cancel()
            await asyncio.wait([registering])
            registered = self._registration.registered
            await self._registration.deregister()
            if registered and (app is None or app.running):
                await asyncio.sleep(self._settings.drain)
        if app is not None:
            await app.stop(min(supervise.GRACE, limit - loop.time()))
        if self._driven is not None and limit > loop.time():
            await self._driven.reporter.leave()
