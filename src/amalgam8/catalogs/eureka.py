"""Instances from Netflix Eureka: everything once, then what has changed, checked by hash code.

Several URLs are tried in order, beginning with the one that answered last; each of them has to give its
whole before its deltas count. What was known stays while none answers. All instances belong to one tenant.
Wire format: ``GET <url>/apps`` and ``/apps/delta``, JSON or XML. Refuses to write: ``registry.eureka_bridge``
puts there what is registered here.
"""

import asyncio
import dataclasses
import ssl
from collections.abc import Sequence

from amalgam8.catalogs.catalog import Catalog, Found
from amalgam8.catalogs.eureka_link import Link, trusting
from amalgam8.catalogs.eureka_mirror import Mirror
from amalgam8.catalogs.loader import Options, read_options
from amalgam8.catalogs.refresh import PERIOD, Refresh
from amalgam8.clients.http import Refusal
from amalgam8.model.errors import Unavailable, Unreachable
from amalgam8.runtime.kinds import TEXT, URL, Kind, choice, duration
from amalgam8.runtime.logs import Log
from amalgam8.runtime.settings import setting

TIMEOUT = 20.0
URLS_LIMIT = 16

_log = Log("catalogs")


def _urls(text: str) -> tuple[str, ...]:
    found = tuple(URL.read(one) for one in text.split(",") if one.strip())
    if not 1 <= len(found) <= URLS_LIMIT:
        raise ValueError
    return found


URLS = Kind[tuple[str, ...]](f"1 to {URLS_LIMIT} http or https URLs", _urls, ",".join, many=True)


@dataclasses.dataclass(frozen=True, repr=False)
class EurekaOptions:
    url: tuple[str, ...] = setting(
        ..., "Base URLs, such as http://eureka:8761/eureka; may hold user:password@.", URLS, secret=True
    )
    username: str = setting("", "User, where the URL names none.")
    password: str = setting("", "Its password.", TEXT, secret=True)
    tenant: str = setting("default", "Tenant of all instances.")
    format: str = setting("json", "What to ask for first; both are understood.", choice("json", "xml"))
    period: float = setting(PERIOD, "Time between looks.", duration(0.01, 3600))
    timeout: float = setting(TIMEOUT, "How long one answer may take.", duration(0.01, 600))
    ca_file: str = setting("", "Certificate authorities to trust in place of the system's.")


def open_catalog(options: Options) -> Catalog:
    """The catalogue ``eureka``.

    Raises:
        InvalidSetting: an option that it does not know or cannot use, or no URL.
    """
    chosen = read_options(EurekaOptions, "eureka", options)
    servers = links(chosen, trusting(chosen.ca_file, "catalog eureka: ca_file"))
    eureka = Eureka(servers, chosen.tenant)
    limit = 2 * len(servers) * chosen.timeout + 1
    return Refresh("eureka", eureka.fetch, period=chosen.period, limit=limit, close=eureka.close)


def links(chosen: EurekaOptions, tls: ssl.SSLContext | None = None, connections: int = 2) -> list[Link]:
    """A link to each URL; ``connections`` bounds how many requests each has on the way at once."""
    return [
        Link(
            url,
            timeout=chosen.timeout,
            username=chosen.username,
            password=chosen.password,
            form=chosen.format,
            connections=connections,
            tls=tls,
        )
        for url in chosen.url
    ]


class Eureka:
    """What the servers know; they are taken to know the same."""

    def __init__(self, servers: Sequence[Link], tenant: str) -> None:
        self._servers = list(servers)
        self._tenant = tenant
        self._mirror = Mirror()
        self._source: Link | None = None

    async def fetch(self) -> Found:
        """Everything, from the first server that answers.

        Raises:
            Unreachable: none does; says why of each.
        """
        reasons = []
        for server in list(self._servers):
            try:
                await self._update(server)
            except (Unavailable, Refusal) as error:
                reasons.append(f"{server.url}: {error}")
                continue
            if server is not self._servers[0]:
                _log.info("another Eureka server is asked from now on", url=server.url)
                self._servers.remove(server)
                self._servers.insert(0, server)
            return {self._tenant: self._mirror.instances()}
        raise Unreachable("; ".join(reasons))

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    async def _update(self, server: Link) -> None:
        if server is self._source and await self._delta(server):
            return
        # Large documents take a while: in a thread of their own, so that nobody else waits for them.
        await asyncio.to_thread(self._mirror.full, await server.get("/apps"))
        self._source = server
        for problem, count in self._mirror.problems.most_common(5):
            _log.debug("instances of Eureka are left out", count=count, reason=problem)

    async def _delta(self, server: Link) -> bool:
        """Whether the mirror is up to date without a full document."""
        try:
            return self._mirror.delta(await server.get("/apps/delta"))
        except Refusal as refusal:
            _log.debug("no deltas from this Eureka server", url=server.url, status=refusal.status)
            return False
