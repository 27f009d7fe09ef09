"""nginx as the sidecar's proxy: what the agent desires goes in, what every worker follows comes out.

``render`` makes one line for each service, and only lines that changed travel. What nginx refuses is left
out by name: the service keeps what it had, or is unavailable, and shows as rejected. Until the agent
desires anything, nginx listens and answers 503.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import ssl
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
from amalgam8.sidecar.nginx.names import HostNames
from amalgam8.sidecar.nginx.process import (
    Process,
    check_port,
    find_binary,
    find_modules,
    listen_address,
    missing_package,
    port_taken,
)
from amalgam8.sidecar.nginx.push import Answer, Head, push
from amalgam8.sidecar.nginx.records import Records
from amalgam8.sidecar.nginx.render import Names, Unrenderable, host_names, line, unavailable
from amalgam8.sidecar.proxy import Confirmed, Desired

_SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes."""

ACCESS_LOG_SIZE = 50 * 1024 * 1024

PAUSE = 0.05
"""Seconds until a document that did not arrive is sent again."""

CHECK_EVERY = 0.5
"""Seconds between looks at whether nginx has been started again, and knows nothing."""

RenderService = Callable[[ServiceRouting, Names], bytes]

log = logging.getLogger("amalgam8.proxy")


class Nginx:
    """One nginx. ``workers`` is its number of worker processes; ``state_dir`` is a folder with mode 0700.

    ``access_log``: the file of the access records, None for none; it grows to ``access_log_size`` bytes.
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
        access_log_size: int = ACCESS_LOG_SIZE,
        authorities: Path | None = None,
        render_service: RenderService = line,
    ) -> None:
        self._state_dir = state_dir
        self._host, self._port = listen_host, http_port
        self._own = own_service
        self._binary = binary
        self._workers = workers
        self._record, self._record_size = access_log, access_log_size
        self._records: Records | None = None
        self._authorities = authorities or _system_authorities()
        self._render_service = render_service
        self._control: Path | None = None
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
        modules = await find_modules(binary)
        host = listen_address(self._host)
        check_port(host, self._port)
        with _socket_folder(self._state_dir) as sockets:
            places = Places(self._state_dir, sockets, modules, self._authorities)
            self._control = places.control
            file = self._state_dir / "nginx.conf"
            text = configuration(
                places, host, self._port, self._own, self._workers, secrets.token_hex(10), self._record
            )
            file.write_text(text)
            file.chmod(0o600)
            refused: asyncio.Future[InvalidSetting] = asyncio.get_running_loop().create_future()
            self._process = Process(binary, file, lambda: _clear(places), self._hearing(host, refused))
            documents = _Documents(
                self.desired, self.confirmed, self._process, places.control, self._render_service
            )
            self._records = Records(self._record, places.traced, self._record_size, self._process.reopen)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._process.run())
                    group.create_task(_guard(places))
                    group.create_task(self._records.run())
                    group.create_task(documents.names.run())
                    group.create_task(documents.follow())
                    raise await refused
            except* InvalidSetting as errors:
                refusal = _first(errors)
            finally:
                _clear(places)
        raise refusal

    def traces(self) -> list[dict[str, Any]]:
        """The newest records of traced calls, oldest first."""
        return self._records.traced() if self._records else []

    async def metrics(self) -> bytes:
        """nginx's figures as Prometheus text; empty while it does not answer."""
        process = self._process
        if self._control is None or process is None:
            return b""
        try:
            return await metrics(self._control, process.started, process.restarts, process.pid)
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return b""

    def _hearing(self, host: str, refused: "asyncio.Future[InvalidSetting]") -> Callable[[str], None]:
        def hear(words: str) -> None:
            if refused.done():
                return
            if package := missing_package(words):
                refused.set_result(
                    InvalidSetting(f"proxy_adapter: a Lua module is missing (Debian: apt install {package})")
                )
            elif found := re.search(rf"bind\(\) to \S*:{self._port} failed \(\d+: ([^)]*)\)", words):
                refused.set_result(port_taken(host, self._port, found[1]))

        return hear


class _Documents:
    """What nginx has, what it is to have, and what it refused."""

    def __init__(
        self,
        desired: Latest[Desired],
        confirmed: Latest[Confirmed | None],
        process: Process,
        control: Path,
        render_service: RenderService,
    ) -> None:
        self.names = HostNames()
        self._desired = desired
        self._confirmed = confirmed
        self._process = process
        self._control = control
        self._render_service = render_service
        self._rendered: dict[str, tuple[ServiceRouting, Names, bytes]] = {}
        self._problems: dict[str, str] = {}
        self._refused: dict[str, tuple[bytes, str]] = {}  # by name: the line that nginx refused, and why
        self._had: dict[str, bytes] = {}  # what nginx follows
        self._generation = 0
        self._base = 0
        self._pid: int | None = None

    async def follow(self) -> None:
        """Follow what the agent desires, what host names mean, and nginx's own new starts."""
        seen = names = 0
        while True:
            seen = await self._newer(seen, names)
            names = self.names.known.version
            if seen:
                await self._bring(self._desired.value)

    async def _newer(self, seen: int, names: int) -> int:
        """Return when there is something to do; the version of the desire that counts then."""
        while True:
            if self._desired.version > seen or (seen and self.names.known.version > names):
                return self._desired.version
            if seen and self._process.pid != self._pid and self._process.pid is not None:
                return seen
            waiting = [
                asyncio.create_task(self._desired.newer(seen)),
                asyncio.create_task(self.names.known.newer(names)),
            ]
            try:
                await asyncio.wait(waiting, timeout=CHECK_EVERY, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()

    async def _bring(self, desired: Desired) -> None:
        """Send until nginx follows ``desired``, or the agent desires something newer."""
        version = self._desired.version
        wanted_names = {name for service in desired.routing.values() for name in host_names(service)}
        self.names.want(wanted_names)
        await self.names.asked()
        self._render(desired.routing)
        while self._desired.version == version:
            if self._process.pid != self._pid:
                self._pid, self._base, self._had = self._process.pid, 0, {}
            lines = self._wanted()
            try:
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
                self._refused[answer.service] = (self._rendered[answer.service][2], answer.error)
                continue
            if answer.status == 400:
                log.error("the proxy refuses its configuration: %s", answer.error)
                return
            self._base, self._generation = 0, max(self._generation, answer.generation)
            await asyncio.sleep(PAUSE)

    async def _send(self, lines: Mapping[str, bytes]) -> Answer:
        """The whole, or what changed since what nginx follows."""
        had = self._had if self._base else {}
        changed = [text for name, text in lines.items() if had.get(name) != text]
        removed = tuple(name for name in had if name not in lines)
        if self._base and not changed and not removed:
            return Answer(200)
        base = self._base
        self._generation += 1
        answer = await push(self._control, Head(self._generation, base, removed), changed)
        if answer.status == 200:
            self._base = self._generation
        return answer

    def _render(self, routing: Mapping[str, ServiceRouting]) -> None:
        names = self.names.known.value
        fresh: dict[str, tuple[ServiceRouting, Names, bytes]] = {}
        self._problems = {name: text for name, text in self._problems.items() if name in routing}
        for name in sorted(routing):
            service, before = routing[name], self._rendered.get(name)
            used = {each: names[each] for each in host_names(service) if each in names}
            if before is not None and before[0] is service and before[1] == used:
                fresh[name] = before
                continue
            try:
                fresh[name] = (service, used, self._render_service(service, used))
                self._problems.pop(name, None)
            except (Unrenderable, ValueError, TypeError) as error:
                self._problems[name] = str(error)
                fresh[name] = (service, used, b"")
        self._rendered = fresh

    def _wanted(self) -> dict[str, bytes]:
        """A line for each service: its own, or what stands for one that cannot be."""
        lines = {}
        for name, (_, _, text) in self._rendered.items():
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
    for each in places.all_sockets:
        each.unlink(missing_ok=True)


async def _guard(places: Places) -> None:
    """nginx lets everybody use its sockets; their folder is private, and soon they are too."""
    while True:
        for each in places.all_sockets:
            with contextlib.suppress(FileNotFoundError):
                if each.stat().st_mode & 0o077:
                    each.chmod(0o600)
        await asyncio.sleep(PAUSE)


def _system_authorities() -> Path | None:
    found = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    return Path(found) if Path(found).exists() else None


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
