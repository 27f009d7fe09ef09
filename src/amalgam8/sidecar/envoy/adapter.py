"""Envoy as the sidecar's proxy: what the agent desires goes in, what Envoy confirmed comes out.

Here the pure parts meet: ``render`` makes resources, ``trial`` leaves out what Envoy refuses, ``ads`` says
what to send when; ``server`` and ``process`` do the I/O. Until the agent desires anything, Envoy listens
and answers 503.
"""

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting, Unreachable
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.envoy.admin import STATS, fetch, metrics
from amalgam8.sidecar.envoy.ads import LINGER, Ads, Request
from amalgam8.sidecar.envoy.bootstrap import bootstrap
from amalgam8.sidecar.envoy.listener import listeners
from amalgam8.sidecar.envoy.messages import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, MAIN, ROUTES, SECOND
from amalgam8.sidecar.envoy.process import Process, check_port, find_binary, listen_address, port_taken
from amalgam8.sidecar.envoy.record import loggers
from amalgam8.sidecar.envoy.recorder import Recorder
from amalgam8.sidecar.envoy.render import Renderer, RenderService
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.server import Stream, serving
from amalgam8.sidecar.envoy.tls import trust
from amalgam8.sidecar.envoy.trial import Trial
from amalgam8.sidecar.proxy import Confirmed, Desired, Stamp

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
    ) -> None:
        self._state_dir = state_dir
        self._host, self._port = listen_host, http_port
        self._own = own_service
        self._binary = binary
        self._workers = workers
        self._linger = linger
        self._render_service = render_service
        self._authorities, self._verify = ca_cert_file, tls_verify
        self._records = access_log
        self._recorder = Recorder(access_log, state_dir / "traced.log", access_log_size, self._reopen)
        self._admin_socket: Path | None = None
        self._process: Process | None = None
        self.desired: Latest[Desired] = Latest(Desired())
        self.confirmed: Latest[Confirmed | None] = Latest(None)

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start Envoy, keep it running and configured; returns only when cancelled, then ends it.

        Raises:
            InvalidSetting: no binary, no such address, or the port cannot be had.
        """
        binary = find_binary(self._binary)
        host = listen_address(self._host)
        check_port(host, self._port)
        renderer = Renderer(
            listeners(
                host, self._port, loggers(str(self._own), self._records, self._state_dir / "traced.log")
            ),
            self._render_service,
            self._own.service,
            self._linger,
            trust(self._authorities, self._verify),
        )
        configuration = _Configuration(self.desired, self.confirmed, renderer, Ads(self._linger))
        with _socket_folder(self._state_dir) as folder:
            ads, self._admin_socket = folder / "ads.sock", folder / "admin.sock"
            file = self._state_dir / "envoy.json"
            file.write_bytes(bootstrap(ads, self._admin_socket, self._own.service, STATS))
            file.chmod(0o600)
            self._process = Process(binary, file, self._workers)
            try:
                async with serving(ads, configuration), asyncio.TaskGroup() as group:
                    group.create_task(self._process.run())
                    group.create_task(configuration.follow())
                    group.create_task(configuration.expire())
                    group.create_task(self._recorder.run())
                    raise port_taken(host, self._port, await configuration.listener_refused)
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

    async def metrics(self) -> bytes:
        """Envoy's figures (``admin.METRICS``) as Prometheus text; empty while it does not answer."""
        if self._admin_socket is None or self._process is None:
            return b""
        try:
            return await metrics(self._admin_socket, self._process.restarts)
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return b""


class _Configuration:
    """Drives the state machine: from the agent's desire and Envoy's words to responses and confirmations."""

    def __init__(
        self, desired: Latest[Desired], confirmed: Latest[Confirmed | None], renderer: Renderer, ads: Ads
    ) -> None:
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
        self.listener_refused: asyncio.Future[str] = loop.create_future()
        """Set with Envoy's words when it cannot listen."""
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
        self._state = self._renderer.state(self._trial.chosen, self._ads.clusters, held, self._clock())
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
        refused = self._ads.refused(LISTENER).get(MAIN)
        if refused is not None and not self.listener_refused.done():
            self.listener_refused.set_result(refused.words)
        if self._stamp is None:
            return False
        return self._learn_targets() or self._learn_routes() or self._learn_acceptance()

    def _learn_targets(self) -> bool:
        bad = {
            name: refusal.words
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
            refusal.words
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
        kinds = (ROUTES, EXTENSION)
        return {(kind, name): item.version for kind in kinds for name, item in self._state.of(kind).items()}

    def _learn_acceptance(self) -> bool:
        if self._ads.followed is not self._state or self._stamp is None:
            return False
        if not self._trial.complete:
            self._trial.accepted()
        if not self._trial.complete:
            self._want()
            return True
        confirmed = Confirmed(self._stamp, self._trial.rejected)
        if confirmed != self._confirmed.value:
            self._confirmed.set(confirmed)
        return False


@contextlib.contextmanager
def _socket_folder(state_dir: Path) -> Iterator[Path]:
    """A private folder for sockets: the state folder, or a short one while its path is too long."""
    if len(bytes(state_dir / "admin.sock")) <= _SOCKET_PATH_LIMIT:
        yield state_dir
        return
    with tempfile.TemporaryDirectory(prefix="a8-") as folder:  # made with mode 0700
        yield Path(folder)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
