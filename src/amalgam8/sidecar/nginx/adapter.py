"""nginx as the sidecar's proxy: what the agent desires goes in, what every worker follows comes out.

``render`` makes one line for each service, and only lines that changed travel. What nginx refuses is left
out by name: the service keeps what it had, or is unavailable, and shows as rejected. Until the agent
desires anything, nginx listens and answers 503.
"""

import asyncio
import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting, Unreachable
from amalgam8.model.report import Rejection
from amalgam8.routing.resolve import ServiceRouting
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.nginx.configuration import Places, configuration
from amalgam8.sidecar.nginx.metrics import metrics
from amalgam8.sidecar.nginx.modules import find_modules, missing_package
from amalgam8.sidecar.nginx.process import (
    Process,
    check_port,
    find_binary,
    listen_address,
    port_taken,
)
from amalgam8.sidecar.nginx.push import Answer, Head, push
from amalgam8.sidecar.nginx.records import traced
from amalgam8.sidecar.nginx.render import Unrenderable, believable, line, unavailable
from amalgam8.sidecar.nginx.tcp import document, figures, tell
from amalgam8.sidecar.proxy import Confirmed, Desired
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import Trust, trust

_SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes."""

PAUSE = 0.05
"""Seconds until a document that did not arrive is sent again."""

CHECK_EVERY = 0.5
"""Seconds between looks at whether nginx has been started again, and knows nothing."""

RenderService = Callable[[ServiceRouting], bytes]

log = logging.getLogger("amalgam8.proxy")


class Nginx:
    """One nginx. ``workers`` is its number of worker processes; ``state_dir`` is a folder with mode 0700.

    ``access_log``: the file of the access records, None for none. ``ca_cert_file``: whom https instances
    are verified against, None: the system's authorities.
    """

    name = "nginx"

    def __init__(
        self,
        *,
        state_dir: Path,
        listen_host: str,
        http_port: int,
        own_service: Caller,
        binary: str | None = None,
        workers: int = 1,
        access_log: Path | None = None,
        ca_cert_file: Path | None = None,
        tls_verify: bool = True,
        tcp_proxies: tuple[TcpProxy, ...] = (),
        render_service: RenderService = line,
    ) -> None:
        self._state_dir = state_dir
        self._host, self._port = listen_host, http_port
        self._own = own_service
        self._binary = binary
        self._workers = workers
        self._record = access_log
        self._trust = trust(ca_cert_file, tls_verify)
        self._tcp_proxies = tcp_proxies
        self._render_service = render_service
        self._places: Places | None = None
        self._process: Process | None = None
        self.desired: Latest[Desired] = Latest(Desired())
        self.confirmed: Latest[Confirmed | None] = Latest(None)

    @property
    def pid(self) -> int | None:
        """The master process that runs now, if one does."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start nginx, keep it running and configured; returns only when cancelled, then ends it.

        Raises:
            InvalidSetting: no binary or module, no such address, or the port cannot be had.
        """
        binary = find_binary(self._binary)
        modules = await find_modules(binary, tcp=bool(self._tcp_proxies))
        host = listen_address(self._host)
        ports = {self._port: "http_listener_port"} | {each.port: "tcp_proxies" for each in self._tcp_proxies}
        for port, setting in ports.items():
            check_port(host, port, setting)
        with _socket_folder(self._state_dir) as sockets:
            places = Places(self._state_dir, sockets, modules, self._trust)
            self._places = places
            file = self._state_dir / "nginx.conf"
            text = configuration(
                places, host, self._port, self._own, self._workers, self._record, self._tcp_proxies
            )
            file.write_text(text)
            file.chmod(0o600)
            refused: asyncio.Future[InvalidSetting] = asyncio.get_running_loop().create_future()
            self._process = Process(binary, file, lambda: _clear(places), _hearing(host, ports, refused))
            documents = _Documents(
                self.desired,
                self.confirmed,
                self._process,
                places,
                self._trust,
                self._render_service,
                self._tcp_proxies,
            )
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._process.run())
                    group.create_task(_guard(places))
                    group.create_task(documents.follow())
                    raise await refused
            except* InvalidSetting as errors:
                refusal = _first(errors)
            finally:
                _clear(places)
        raise refusal

    def traces(self) -> list[dict[str, Any]]:
        """The newest records of traced calls, oldest first (``records.traced``)."""
        return traced(self._record) if self._record else []

    async def metrics(self) -> bytes:
        """nginx's figures as Prometheus text; empty while it does not answer."""
        process = self._process
        places = self._places
        if places is None or process is None:
            return b""
        try:
            found = await metrics(places.control, process.started, process.restarts, process.pid)
            return found + (await figures(places.tcp, self._tcp_proxies) if self._tcp_proxies else b"")
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return b""


def _hearing(
    host: str, ports: Mapping[int, str], refused: "asyncio.Future[InvalidSetting]"
) -> Callable[[str], None]:
    """What listens to nginx's words and tells of those that mean it cannot start; ``ports`` by setting."""

    def hear(words: str) -> None:
        if refused.done():
            return
        if package := missing_package(words):
            refused.set_result(
                InvalidSetting(f"proxy_adapter: a Lua module is missing (Debian: apt install {package})")
            )
        elif found := re.search(r"bind\(\) to \S*:(\d+) failed \(\d+: ([^)]*)\)", words):
            port = int(found[1])
            if port in ports:
                refused.set_result(port_taken(host, port, found[2], ports[port]))

    return hear


class _Documents:
    """What nginx has, what it is to have, and what it refused."""

    def __init__(
        self,
        desired: Latest[Desired],
        confirmed: Latest[Confirmed | None],
        process: Process,
        places: Places,
        believed: Trust,
        render_service: RenderService,
        tcp_proxies: tuple[TcpProxy, ...],
    ) -> None:
        self._desired = desired
        self._confirmed = confirmed
        self._process = process
        self._places = places
        self._trust = believed
        self._tcp_proxies = tcp_proxies
        self._told = b""  # what becomes of TCP connections, as nginx knows it
        self._render_service = render_service
        self._rendered: dict[str, tuple[ServiceRouting, bytes]] = {}
        self._problems: dict[str, str] = {}
        self._refused: dict[str, tuple[bytes, str]] = {}  # by name: the line that nginx refused, and why
        self._had: dict[str, bytes] = {}  # what nginx follows
        self._generation = 0
        self._base = 0
        self._pid: int | None = None

    async def follow(self) -> None:
        """Never returns."""
        seen = 0
        while True:
            seen = await self._newer(seen)
            if seen:
                await self._bring(self._desired.value)

    async def _newer(self, seen: int) -> int:
        """Return when there is something to do; the version of the desire that counts then."""
        while True:
            if self._desired.version > seen:
                return self._desired.version
            if seen and self._process.pid != self._pid and self._process.pid is not None:
                return seen
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY):
                    await self._desired.newer(seen)

    async def _bring(self, desired: Desired) -> None:
        """Send until nginx follows ``desired``, or the agent desires something newer."""
        version = self._desired.version
        self._render(desired.routing)
        while self._desired.version == version:
            if self._process.pid != self._pid:
                self._pid, self._base, self._had, self._told = self._process.pid, 0, {}, b""
            lines = self._wanted()
            try:
                await self._tell(desired)
                answer = await self._send(lines)
            except Unreachable as error:
                log.debug("a document did not arrive: %s", error)
                self._base = 0
                await asyncio.sleep(PAUSE)
                continue
            if answer.status == 200:
                self._had, self._base = lines, self._generation
                rejected = tuple(
                    Rejection(name, f"nginx: {reason}") for name, reason in sorted(self._rejected().items())
                )
                confirmed = Confirmed(desired.stamp, rejected)
                if confirmed != self._confirmed.value:
                    self._confirmed.set(confirmed)
                return
            if answer.status == 400 and answer.service in self._rendered:
                self._refused[answer.service] = (self._rendered[answer.service][1], answer.error)
                continue
            if answer.status == 400:
                log.error("the proxy refuses its configuration: %s", answer.error)
                return
            self._base, self._generation = 0, max(self._generation, answer.generation)
            await asyncio.sleep(PAUSE)

    async def _tell(self, desired: Desired) -> None:
        """What becomes of TCP connections, where that has changed."""
        if not self._tcp_proxies:
            return
        wanted = document(self._tcp_proxies, desired.routing)
        if wanted != self._told:
            await tell(self._places.tcp, self._places.folder / "tcp.json", wanted)
            self._told = wanted

    async def _send(self, lines: Mapping[str, bytes]) -> Answer:
        """The whole, or what changed since what nginx follows."""
        had = self._had if self._base else {}
        changed = [text for name, text in lines.items() if had.get(name) != text]
        removed = tuple(name for name in had if name not in lines)
        if self._base and not changed and not removed:
            return Answer(200)
        base = self._base
        self._generation += 1
        answer = await push(self._places.control, Head(self._generation, base, removed), changed)
        if answer.status == 200:
            self._base = self._generation
        return answer

    def _render(self, routing: Mapping[str, ServiceRouting]) -> None:
        fresh: dict[str, tuple[ServiceRouting, bytes]] = {}
        self._problems = {name: text for name, text in self._problems.items() if name in routing}
        for name in sorted(routing):
            service, before = routing[name], self._rendered.get(name)
            if before is not None and before[0] is service:
                fresh[name] = before
                continue
            try:
                believable(service, self._trust)
                fresh[name] = (service, self._render_service(service))
                self._problems.pop(name, None)
            except (Unrenderable, ValueError, TypeError) as error:
                self._problems[name] = str(error)
                fresh[name] = (service, b"")
        self._rendered = fresh

    def _wanted(self) -> dict[str, bytes]:
        """A line for each service: its own, or what stands for one that cannot be."""
        lines = {}
        for name, (_, text) in self._rendered.items():
            refused = self._refused.get(name)
            if refused is not None and refused[0] != text:
                del self._refused[name]
                refused = None
            lines[name] = text if text and refused is None else self._had.get(name) or unavailable(name)
        return lines

    def _rejected(self) -> dict[str, str]:
        refused = {name: reason for name, (_, reason) in self._refused.items() if name in self._rendered}
        return {**refused, **self._problems}


def _clear(places: Places) -> None:
    """A socket that a killed nginx left would keep the next one from listening."""
    for each in (places.control, places.hop, places.tcp):
        each.unlink(missing_ok=True)


async def _guard(places: Places) -> None:
    """nginx lets everybody use its sockets; their folder is private, and soon they are too."""
    while True:
        for each in (places.control, places.hop, places.tcp):
            with contextlib.suppress(FileNotFoundError):
                if each.stat().st_mode & 0o077:
                    each.chmod(0o600)
        await asyncio.sleep(PAUSE)


@contextlib.contextmanager
def _socket_folder(state_dir: Path) -> Iterator[Path]:
    """A private folder for sockets: the state folder, or a short one while its path is too long."""
    if len(bytes(state_dir / "control.sock")) <= _SOCKET_PATH_LIMIT:
        yield state_dir
        return
    with tempfile.TemporaryDirectory(prefix="a8-") as folder:  # made with mode 0700
        yield Path(folder)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
