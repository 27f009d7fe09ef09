"""The proxies under test, by name: each can start, follow a Routing, and stop.

``lacks`` are features (``needs`` of cases) that a proxy does not have yet. It is the only such list; what is
left out because of it is counted at the end of the run.
"""

import contextlib
from pathlib import Path
from typing import Protocol

from amalgam8.routing.resolve import ServiceRouting
from tests.sidecar.envoy.support import Mesh, running

FEATURES = frozenset(
    {
        *("blocks", "headers", "lb_type", "resilience", "host", "hostnames", "uri", "traceparent"),
        *("no-answer", "timeouts", "retries", "faults-as-failures", "access", "limits", "mirrors"),
        *("trace", "record", "affinity"),
    }
)


class Proxy(Protocol):
    """A proxy under test; ``port`` is where it listens."""

    lacks: frozenset[str]
    port: int

    async def start(self, folder: Path) -> None: ...

    async def apply(self, routing: dict[str, ServiceRouting]) -> dict[str, str]:
        """Wait until this Routing is followed; what was rejected, by destination, with the proxy's words."""
        ...

    async def stop(self) -> None: ...


class EnvoyProxy:
    """Envoy, as the sidecar drives it."""

    lacks = frozenset({"record", "traceparent"})

    def __init__(self) -> None:
        self.port = 0
        self._exits = contextlib.AsyncExitStack()
        self._mesh: Mesh | None = None

    async def start(self, folder: Path) -> None:
        self._mesh = await self._exits.enter_async_context(running(folder))
        self.port = self._mesh.port

    async def apply(self, routing: dict[str, ServiceRouting]) -> dict[str, str]:
        assert self._mesh is not None
        confirmed = await self._mesh.follow(*routing.values())
        return {rejected.destination: rejected.reason for rejected in confirmed.rejected}

    async def stop(self) -> None:
        await self._exits.aclose()


PROXIES: dict[str, type[Proxy]] = {"envoy": EnvoyProxy}
