"""nginx as the sidecar's proxy: what the agent desires goes in, what every worker follows comes out.

Finds nginx, writes its configuration once, starts it, and ends it. ``documents`` tells it what to follow.
Until the agent desires anything, nginx listens and answers 503.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from amalgam8.model.caller import Caller
from amalgam8.model.errors import InvalidSetting, Unreachable
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.nginx import slices
from amalgam8.sidecar.nginx.configuration import Places, configuration
from amalgam8.sidecar.nginx.documents import Documents, RenderService
from amalgam8.sidecar.nginx.metrics import metrics
from amalgam8.sidecar.nginx.modules import find_modules, missing_package
from amalgam8.sidecar.nginx.process import (
    Process,
    find_binary,
)
from amalgam8.sidecar.nginx.records import Records
from amalgam8.sidecar.nginx.render import line
from amalgam8.sidecar.nginx.tcp import figures
from amalgam8.sidecar.preflight import check_port, check_writable, listen_address, port_taken
from amalgam8.sidecar.proxy import Confirmed, Demand, Desired
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import trust

_SOCKET_PATH_LIMIT = 100
"""A unix socket's path holds at most 107 bytes."""

ACCESS_LOG_SIZE = 50 * 1024 * 1024

PAUSE = 0.05
"""Seconds between looks at who may use the sockets."""

log = logging.getLogger("amalgam8.proxy")


class Nginx:
    """One nginx. ``workers`` is its number of worker processes; ``state_dir`` is a folder with mode 0700.

    ``access_log``: the file of the access records, None for none; it grows to ``access_log_size`` bytes.
    ``ca_cert_file``: whom https instances are verified against, None: the system's authorities.
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
        self._record, self._record_size = access_log, access_log_size
        self._records: Records | None = None
        self._trust = trust(ca_cert_file, tls_verify)
        self._tcp_proxies = tcp_proxies
        self._render_service = render_service
        self._places: Places | None = None
        self._process: Process | None = None
        self.slices: Latest[Mapping[str, float]] = Latest({})
        self.desired: Latest[Desired] = Latest(Desired())
        self.confirmed: Latest[Confirmed | None] = Latest(None)

    @property
    def pid(self) -> int | None:
        """The master process that runs now, if one does."""
        return self._process.pid if self._process else None

    async def run(self) -> None:
        """Start nginx, keep it running and configured; returns only when cancelled, then ends it.

        Raises:
            InvalidSetting: no binary or module, no such address, or port or access log cannot be had.
        """
        binary = find_binary(self._binary)
        modules = await find_modules(binary, tcp=bool(self._tcp_proxies))
        host = listen_address(self._host)
        ports = {self._port: "http_listener_port"} | {each.port: "tcp_proxies" for each in self._tcp_proxies}
        for port, setting in ports.items():
            check_port(host, port, setting)
        check_writable(self._record, "access_log")
        with _socket_folder(self._state_dir) as sockets:
            places = Places(self._state_dir, sockets, modules, self._trust)
            self._places = places
            file = self._state_dir / "nginx.conf"
            text = configuration(
                places,
                host,
                self._port,
                self._own,
                self._workers,
                secrets.token_hex(10),
                self._record,
                self._tcp_proxies,
            )
            file.write_text(text)
            file.chmod(0o600)
            refused: asyncio.Future[InvalidSetting] = asyncio.get_running_loop().create_future()
            self._process = Process(binary, file, lambda: _clear(places), _hearing(host, ports, refused))
            documents = Documents(
                self.desired,
                self.confirmed,
                self._process,
                places,
                self._trust,
                self._render_service,
                self._tcp_proxies,
            )
            self._records = Records(self._record, places.traced, self._record_size, self._process.reopen)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._process.run())
                    group.create_task(_guard(places))
                    group.create_task(self._records.run())
                    group.create_task(documents.follow())
                    group.create_task(slices.follow(self.slices, self._process, places.control))
                    raise await refused
            except* InvalidSetting as errors:
                refusal = _first(errors)
            finally:
                _clear(places)
        raise refusal

    def traces(self) -> list[dict[str, Any]]:
        """The newest records of traced calls, oldest first."""
        return self._records.traced() if self._records else []

    async def demand(self) -> Mapping[str, Demand]:
        """Calls that came to limits of the fleet's budgets, by rule."""
        try:
            return await slices.demand(self._places.control) if self._places else {}
        except Unreachable as error:
            log.debug("no figures: %s", error)
            return {}

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
