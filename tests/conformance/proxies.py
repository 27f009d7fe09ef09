"""The proxies under test, by name: each can start, follow a Routing, and stop.

``lacks`` are features (``needs`` of cases) that a proxy does not have. It is the only such list. No case is
left out because of it now, and would be counted at the end of the run; two tests hold a proxy to what happens
instead.
"""

import contextlib
import resource
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec

from amalgam8.routing.resolve import ServiceRouting
from tests.sidecar.envoy.support import Mesh, running
from tests.sidecar.nginx import support as nginx

FEATURES = frozenset(
    {
        *("blocks", "headers", "lb_type", "resilience", "host", "hostnames", "uri", "traceparent"),
        *("no-answer", "timeouts", "retries", "faults-as-failures", "access", "limits", "mirrors"),
        *("trace", "record", "affinity", "malformed-paths", "long-bodies-again", "tcp-attempts", "http2"),
    }
)


class Proxy(Protocol):
    """A proxy under test; ``port`` is where it listens."""

    lacks: frozenset[str]
    port: int

    async def start(self, folder: Path, **more: Any) -> None:
        """``more`` are arguments that every proxy has, such as ``tcp_proxies``."""
        ...

    async def apply(self, routing: dict[str, ServiceRouting]) -> dict[str, str]:
        """Wait until this Routing is followed; what was rejected, by destination, with the proxy's words."""
        ...

    def records(self) -> list[dict[str, Any]]:
        """All access records that were written so far."""
        ...

    def pids(self) -> list[int]:
        """The processes that calls go through."""
        ...

    async def stop(self) -> None: ...


class EnvoyProxy:
    """Envoy, as the sidecar drives it."""

    lacks = frozenset({"long-bodies-again"})

    def __init__(self) -> None:
        self.port = 0
        self._exits = contextlib.AsyncExitStack()
        self._mesh: Mesh | None = None
        self._records = Path()

    async def start(self, folder: Path, **more: Any) -> None:
        self._records = folder / "access.log"
        self._mesh = await self._exits.enter_async_context(running(folder, access_log=self._records, **more))
        self.port = self._mesh.port

    async def apply(self, routing: dict[str, ServiceRouting]) -> dict[str, str]:
        assert self._mesh is not None
        confirmed = await self._mesh.follow(*routing.values())
        return {rejected.destination: rejected.reason for rejected in confirmed.rejected}

    def records(self) -> list[dict[str, Any]]:
        lines = self._records.read_bytes().split(b"\n") if self._records.is_file() else []
        return [msgspec.json.decode(line) for line in lines[:-1]]

    def pids(self) -> list[int]:
        assert self._mesh is not None
        assert self._mesh.envoy.pid is not None
        return [self._mesh.envoy.pid]

    async def stop(self) -> None:
        await self._exits.aclose()


class NginxProxy:
    """nginx with Lua, as the sidecar drives it."""

    # nginx leads a TCP connection to one address only
    lacks = frozenset({"tcp-attempts"})

    def __init__(self) -> None:
        self.port = 0
        self._exits = contextlib.AsyncExitStack()
        self._mesh: nginx.Mesh | None = None
        self._records = Path()

    async def start(self, folder: Path, **more: Any) -> None:
        self._records = folder / "access.log"
        self._mesh = await self._exits.enter_async_context(
            nginx.running(folder, access_log=self._records, **more)
        )
        self.port = self._mesh.port

    async def apply(self, routing: dict[str, ServiceRouting]) -> dict[str, str]:
        assert self._mesh is not None
        confirmed = await self._mesh.follow(*map(_unlapsed, routing.values()))
        return {rejected.destination: rejected.reason for rejected in confirmed.rejected}

    def records(self) -> list[dict[str, Any]]:
        lines = self._records.read_bytes().split(b"\n") if self._records.is_file() else []
        return [msgspec.json.decode(line.decode(errors="replace")) for line in lines[:-1]]

    def pids(self) -> list[int]:
        assert self._mesh is not None
        return nginx.workers(self._mesh)

    async def stop(self) -> None:
        await self._exits.aclose()


def _unlapsed(service: ServiceRouting) -> ServiceRouting:
    """What has not lapsed by the cases' clock does not lapse by nginx's, which looks at its own."""
    later = time.time() + 3600
    kinds = ("routes", "outers", "access", "limits", "headers", "mirrors", "faults", "traces")
    changed = {
        kind: tuple(
            entry if entry.expires is None else msgspec.structs.replace(entry, expires=later)
            for entry in getattr(service, kind)
        )
        for kind in kinds
    }
    return msgspec.structs.replace(service, **changed)


def memory(proxy: Proxy) -> int:
    """Bytes that the proxy's processes have resident, together."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in proxy.pids())
    return pages * resource.getpagesize()


PROXIES: dict[str, type[Proxy]] = {"envoy": EnvoyProxy, "nginx": NginxProxy}
