"""TCP proxies: ports of the sidecar that lead to a service, as the settings ask for them.

What rules mean for their connections is ``routing.connect``; carrying them is the proxy's. Here are the
setting, and the words about rules of which something does not apply. Refuses to open a port.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from amalgam8.model.caller import parse_caller
from amalgam8.model.errors import InvalidInput
from amalgam8.routing.connect import Connection, connect
from amalgam8.routing.resolve import Routing, Tags
from amalgam8.runtime.kinds import PORT, Kind
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.proxy import Desired

PROXIES_LIMIT = 64

_ENTRY = re.compile(r"(\d+)=(\S+)")
_BETWEEN = re.compile(r"[\s,]+(?=\d+=)")
_log = Log("sidecar.tcp")


class TcpProxy(msgspec.Struct, frozen=True):
    """Connections to ``port`` go to the instances of ``service`` that carry all ``tags``."""

    port: int
    service: str
    tags: Tags = ()

    def __str__(self) -> str:
        return f"{self.port}={':'.join((self.service, *([','.join(self.tags)] if self.tags else [])))}"


def _read(text: str) -> tuple[TcpProxy, ...]:
    found: list[TcpProxy] = []
    for entry in _BETWEEN.split(text.strip()) if text.strip() else []:
        match = _ENTRY.fullmatch(entry)
        if not match:
            raise ValueError(entry)
        try:
            port, target = PORT.read(match[1]), parse_caller(match[2])
        except ValueError:
            raise ValueError(f"{match[1]} is no port") from None
        except InvalidInput as error:
            raise ValueError(str(error)) from None
        if any(proxy.port == port for proxy in found):
            raise ValueError(f"port {port} stands twice")
        found.append(TcpProxy(port, target.service, target.tags))
    if len(found) > PROXIES_LIMIT:
        raise ValueError(f"more than {PROXIES_LIMIT}")
    return tuple(found)


def _entry(item: Mapping[str, Any]) -> str:
    """An entry of the original's file: ``{service: name:tag, listener_port: 6380}``."""
    if set(item) != {"service", "listener_port"}:
        raise ValueError("each entry has service and listener_port")
    return f"{item['listener_port']}={item['service']}"


TCP_PROXIES = Kind[tuple[TcpProxy, ...]](
    "PORT=SERVICE or PORT=SERVICE:TAG,TAG, with commas or spaces between",
    _read,
    lambda value: ",".join(map(str, value)),
    many=True,
    entry=_entry,
)


def pins(proxies: Iterable[TcpProxy]) -> dict[str, tuple[Tags, ...]]:
    """Tags by service whose instances have to be known whatever the rules say."""
    found: dict[str, tuple[Tags, ...]] = {}
    for proxy in proxies:
        if proxy.tags:
            found[proxy.service] = (*found.get(proxy.service, ()), proxy.tags)
    return found


class Connections:
    """What becomes of connections to each TCP proxy, from what is desired."""

    def __init__(self, proxies: tuple[TcpProxy, ...], desired: Latest[Desired]) -> None:
        self._proxies = proxies
        self._desired = desired

    def now(self) -> list[tuple[TcpProxy, Connection | None]]:
        """In the order of the settings; None: nobody knows such a service."""
        return [(proxy, connection(proxy, self._desired.value.routing)) for proxy in self._proxies]

    async def run(self) -> None:
        """Say once, of each rule, what does not apply to connections; never returns."""
        said: set[tuple[str, str]] = set()
        async for _ in self._desired.follow():
            now = {
                (proxy.service, f"{unfit.rule}: {unfit.why}")
                for proxy, found in self.now()
                for unfit in (found.unfit if found else ())
            }
            for service, words in sorted(now - said):
                _log.warning("a rule does not apply to tcp connections", service=service, rule=words)
            said = now


def connection(proxy: TcpProxy, routing: Routing) -> Connection | None:
    """What becomes of connections to a TCP proxy; None: nobody knows its service."""
    service = routing.get(proxy.service)
    return connect(service, proxy.tags) if service is not None else None
