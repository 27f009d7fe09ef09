"""Addresses of instances that are registered by host name, looked up again every PERIOD seconds.

Asks the machine's own resolver: ``/etc/hosts`` and the name servers that the system is told to use. A name
that cannot be looked up keeps the addresses that it had: stale beats empty.
"""

import asyncio
import socket
from collections.abc import Iterable

from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log

PERIOD = 5.0
WITHIN = 3.0

_log = Log("sidecar.names")


class HostNames:
    """``known`` holds the addresses of each wanted name that could be looked up."""

    def __init__(self) -> None:
        self.known: Latest[dict[str, tuple[str, ...]]] = Latest({})
        self._wanted: frozenset[str] = frozenset()
        self._more = asyncio.Event()
        self._asked: Latest[frozenset[str]] = Latest(frozenset())

    def want(self, names: Iterable[str]) -> None:
        """Follow exactly these names."""
        wanted = frozenset(names)
        if wanted - self._wanted:
            self._more.set()
        self._wanted = wanted

    async def asked(self) -> None:
        """Return when each wanted name has been looked up once, whatever came of it."""
        while self._wanted - self._asked.value:
            await self._asked.newer(self._asked.version)

    async def run(self) -> None:
        """Never returns."""
        while True:
            self._more.clear()
            wanted = self._wanted
            found = dict(zip(wanted, await asyncio.gather(*map(self._look_up, wanted)), strict=True))
            known = {name: addresses for name, addresses in found.items() if addresses}
            if known != self.known.value:
                self.known.set(known)
            self._asked.set(wanted)
            try:
                async with asyncio.timeout(PERIOD if self._wanted else None):
                    await self._more.wait()
            except TimeoutError:
                pass

    async def _look_up(self, name: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(WITHIN):
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            kept = self.known.value.get(name, ())
            _log.warning("a host name cannot be looked up", name=name, error=error, kept=len(kept))
            return kept
        addresses = {str(where[4][0]) for where in found if "%" not in str(where[4][0])}
        return tuple(sorted(addresses, key=lambda each: (":" in each, each)))
