"""Envoy as the sidecar's proxy: what the agent desires goes in, what Envoy confirmed comes out.

Here the pure parts meet: ``render`` makes resources, ``trial`` leaves out what Envoy refuses, ``ads`` says
what to send when; ``server`` and ``process`` do the I/O. Until the agent desires anything, Envoy listens
and answers 503.
"""

import asyncio
import contextlib
import logging
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting, Unreachable
from amalgam8.model.report import Rejection
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.envoy.admin import STATS, demand, fetch, metrics
from amalgam8.sidecar.envoy.ads import LINGER, Ads, Request
from amalgam8.sidecar.envoy.bootstrap import bootstrap
from amalgam8.sidecar.envoy.listener import listeners
from amalgam8.sidecar.envoy.messages import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, MAIN, ROUTES, SECOND
from amalgam8.sidecar.envoy.process import Process, find_binary
from amalgam8.sidecar.envoy.record import loggers
from amalgam8.sidecar.envoy.recorder import Recorder
from amalgam8.sidecar.envoy.render import Renderer, RenderService
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.server import Stream, serving
from amalgam8.sidecar.envoy.slices import write as write_slices
from amalgam8.sidecar.envoy.tcp import TcpFilters, listener_name, stats, tcp_listeners
from amalgam8.sidecar.envoy.trial import WORDS_LIMIT, Trial
from amalgam8.sidecar.preflight import check_port, check_writable, listen_address, port_taken
from amalgam8.sidecar.proxy import Confirmed, Demand, Desired, Stamp
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import trust

_SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes."""

log = logging.getLogger("amalgam8.proxy")


class Envoy:
    """One Envoy. ``workers`` is its number of worker threads.

    One is the default: a machine has many sidecars, one thread carries about 20,000 calls a second, and
    with one thread round robin is exact. ``state_dir`` is a folder with mode 0700.
    """

    name = "envoy"

    def __init__(
        self,
        *,
        state_dir: Path,
        listen_host: str,
        http_port: int,
        own_service: Caller,
        binary: str | None = None,
        workers: int = 1,
        linger: float = LINGER,
        render_service: RenderService = branch,
        access_log: Path | None = None,
        access_log_size: int = 50 * 1024 * 1024,
        ca_cert_file: Path | None = None,
        tls_verify: bool = True,
        tcp_proxies: tuple[TcpProxy, ...] = (),
    ) -> None:
        self._state_dir = state_dir
        self._host, self._port = listen_host, http_port
        self._own = own_service
        self._binary, self._workers = binary, workers
        self._linger = linger
        self._render_service = render_service
        self._authorities, self._verify = ca_cert_file, tls_verify
        self._tcp_proxies = tcp_proxies
        self._records = access_log
        self._recorder = Recorder(access_log, state_dir / "traced.log", access_log_size, self._reopen)
        self._admin_socket: Path | None = None
        self._process: Process | None = None
        # Envoy watches the folder, and must not be woken by records that are written in it.
        self._slices_file = state_dir / "slices" / "slices.json"
        self.slices: Latest[Mapping[str, float]] = Latest({})
        self.desired: Latest[Desired] = Latest(Desired())
        self.confirmed: Latest[Confirmed | None] = Latest(None)

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start Envoy, keep it running and configured; returns only when cancelled, then ends it.

        Raises:
            InvalidSetting: no binary, no such address, or port or access log cannot be had.
        """
        binary = find_binary(self._binary)
        host = listen_address(self._host)
        ports = {MAIN: self._port} | {listener_name(proxy): proxy.port for proxy in self._tcp_proxies}
        for name, port in ports.items():
            check_port(host, port, _setting(name))
        check_writable(self._records, "access_log")
        written = loggers(str(self._own), self._records, self._state_dir / "traced.log")
        own = listeners(host, self._port, written, self._slices_file, secrets.token_hex(16), self._workers)
        renderer = Renderer(
            own | tcp_listeners(host, self._tcp_proxies),
            self._render_service,
            self._own.service,
            self._linger,
            trust(self._authorities, self._verify),
            TcpFilters(self._tcp_proxies, str(self._own), self._records),
        )
        services = {listener_name(proxy): proxy.service for proxy in self._tcp_proxies}
        ads_state = Ads(self._linger)
        configuration = _Configuration(self.desired, self.confirmed, renderer, ads_state, services)
        write_slices(self._slices_file, self.slices.value)  # Envoy watches a file that is there
        with _socket_folder(self._state_dir) as folder:
            ads, self._admin_socket = folder / "ads.sock", folder / "admin.sock"
            file = self._state_dir / "envoy.json"
            figures = (metric.stat for metric in stats(self._tcp_proxies))
            file.write_bytes(bootstrap(ads, self._admin_socket, self._own.service, (*STATS, *figures)))
            file.chmod(0o600)
            self._process = Process(binary, file, self._workers)
            try:
                async with serving(ads, configuration), asyncio.TaskGroup() as group:
                    group.create_task(self._process.run())
                    group.create_task(configuration.follow())
                    group.create_task(configuration.expire())
                    group.create_task(self._recorder.run())
                    group.create_task(self._follow_slices())
                    name, words = await configuration.listener_refused
                    raise port_taken(host, ports[name], words, _setting(name))
            except* InvalidSetting as errors:
                refusal = _first(errors)
            finally:
                self._admin_socket.unlink(missing_ok=True)
                self._recorder.close()
        raise refusal

    def traces(self) -> list[dict[str, Any]]:
        """The newest records of traced calls, oldest first."""
        return list(self._recorder.ring)

    async def _reopen(self) -> None:
        if self._admin_socket is not None:
            await fetch(self._admin_socket, "/reopen_logs", "POST")

    async def _follow_slices(self) -> None:
        version = 0
        while True:
            version = await self.slices.newer(version)
            write_slices(self._slices_file, self.slices.value)

    async def demand(self) -> Mapping[str, Demand]:
        """Calls that came to limits of the fleet's budgets, by rule."""
        if self._admin_socket is None:
            return {}
        try:
            return await demand(self._admin_socket)
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return {}

    async def metrics(self) -> bytes:
        """Envoy's figures (``admin.METRICS``) as Prometheus text; empty while it does not answer."""
        if self._admin_socket is None or self._process is None:
            return b""
        try:
            return await metrics(self._admin_socket, self._process.restarts, stats(self._tcp_proxies))
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return b""


class _Configuration:
    """Drives the state machine: from the agent's desire and Envoy's words to responses and confirmations."""

    def __init__(
        self,
        desired: Latest[Desired],
        confirmed: Latest[Confirmed | None],
        renderer: Renderer,
        ads: Ads,
        tcp_services: Mapping[str, str],
    ) -> None:
        self._tcp_services = tcp_services
        self._desired = desired
        self._confirmed = confirmed
        self._renderer = renderer
        self._ads = ads
        self._trial = Trial()
        self._bad_targets: dict[str, str] = {}
        self._stamp: Stamp | None = None
        self._state = renderer.waiting()
        self._stream: Stream | None = None
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._moved = asyncio.Event()
        self.listener_refused: asyncio.Future[tuple[str, str]] = loop.create_future()
        """Set with the listener's name and Envoy's words when it cannot listen."""
        ads.want(self._state)

    async def follow(self) -> None:
        """Follow what the agent desires."""
        version = 0
        while True:
            version = await self._desired.newer(version)
            desired = self._desired.value
            rendering = self._renderer.render(desired.routing)
            self._trial.want(rendering.parts, rendering.problems)
            self._stamp = desired.stamp
            self._want()
            self._advance()

    async def expire(self) -> None:
        """Let clusters go when their time is over."""
        while True:
            until = self._ads.wake_at
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._moved.wait()
            self._moved.clear()
            if until is not None and until <= self._clock():
                self._advance()

    def opened(self, stream: Stream) -> None:
        self._stream = stream
        self._ads.reset()

    def received(self, stream: Stream, request: Request) -> None:
        if stream is self._stream:
            self._ads.received(request, self._clock())
            self._advance()

    def closed(self, stream: Stream) -> None:
        if stream is self._stream:
            self._stream = None
            self._ads.reset()

    def _want(self) -> None:
        held = self._ads.held(ROUTES, SECOND)
        self._state = self._renderer.state(
            self._trial.chosen, self._ads.clusters, held, self._clock(), self._bad_targets
        )
        self._ads.want(self._state)

    def _advance(self) -> None:
        """Send what is due, and learn from what Envoy said, until neither gives anything new."""
        while True:
            for response in self._ads.step(self._clock()):
                if self._stream is not None:
                    self._stream.send(response)
            if not self._learn():
                break
        self._moved.set()

    def _learn(self) -> bool:
        """Take in what Envoy refused or accepted; whether that makes a new state to send."""
        for name, refused in self._ads.refused(LISTENER).items():
            if name != SECOND and not self.listener_refused.done():
                self.listener_refused.set_result((name, refused.words))
        if self._stamp is None:
            return False
        return self._learn_targets() or self._learn_routes() or self._learn_acceptance()

    def _learn_targets(self) -> bool:
        bad = {
            name: _reason(refusal.words)
            for kind in (CLUSTER, ENDPOINTS)
            for name, refusal in self._ads.refused(kind).items()
            if self._renderer.version(kind, name) == refusal.version
        }
        if bad == self._bad_targets:
            return False
        self._bad_targets = bad
        self._trial.refused_targets(bad)
        self._want()
        return True

    def _learn_routes(self) -> bool:
        versions = self._whole()
        words = [
            refusal.words if kind == ROUTES else _reason(refusal.words)
            for kind in (ROUTES, EXTENSION)
            for name, refusal in self._ads.refused(kind).items()
            if versions.get((kind, name)) == refusal.version
        ]
        if not words:
            return False
        self._trial.refused(words[0])
        self._want()
        if self._whole() != versions:
            return True
        log.error("the proxy refuses its configuration, and not for one destination: %s", words[0])
        return False

    def _whole(self) -> dict[tuple[str, str], str]:
        """The versions of what is made of several destinations, by kind and name."""
        kinds = ((ROUTES, self._state.routes), (EXTENSION, self._state.extensions))
        return {(kind, name): item.version for kind, items in kinds for name, item in items.items()}

    def _learn_acceptance(self) -> bool:
        if self._ads.followed is not self._state or self._stamp is None:
            return False
        self._renderer.followed()
        if not self._trial.complete:
            self._trial.accepted()
        if not self._trial.complete:
            self._want()
            return True
        confirmed = Confirmed(self._stamp, (*self._trial.rejected, *self._refused_filters()))
        if confirmed != self._confirmed.value:
            self._confirmed.set(confirmed)
        return False

    def _refused_filters(self) -> Iterator[Rejection]:
        """TCP proxies whose newest filter Envoy refuses; they go on with the last one that it took."""
        wanted = self._state.connections
        for name, refusal in sorted(self._ads.refused(EXTENSION).items()):
            if name in wanted and wanted[name].version == refusal.version:
                yield Rejection(self._tcp_services[name], _reason(refusal.words)[:WORDS_LIMIT])


def _reason(words: str) -> str:
    """Why Envoy refuses something, which stands after a dump of the whole of it, if there is one."""
    return words.rpartition("\n")[2].lstrip(": ")


@contextlib.contextmanager
def _socket_folder(state_dir: Path) -> Iterator[Path]:
    """A private folder for sockets: the state folder, or a short one while its path is too long."""
    if len(bytes(state_dir / "admin.sock")) <= _SOCKET_PATH_LIMIT:
        yield state_dir
        return
    with tempfile.TemporaryDirectory(prefix="a8-") as folder:  # made with mode 0700
        yield Path(folder)


def _setting(listener: str) -> str:
    """The setting that a listener's port comes from."""
    return "http_listener_port" if listener == MAIN else "tcp_proxies"


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
