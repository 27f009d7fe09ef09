"""What nginx has been told, what it is to be told, and what it refused.

Only the lines of services that changed travel, to an nginx that has the rest. A service that nginx or
``render`` refuses keeps what it had, or is unavailable, and shows as rejected; the others are followed.
Refuses to confirm anything that not every worker follows.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from amalgam8.model.errors import Unreachable
from amalgam8.model.report import Rejection
from amalgam8.routing.resolve import ServiceRouting
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar.nginx.configuration import Places
from amalgam8.sidecar.nginx.process import Process
from amalgam8.sidecar.nginx.push import Answer, Head, push
from amalgam8.sidecar.nginx.render import Unrenderable, believable, unavailable
from amalgam8.sidecar.nginx.tcp import Untold, document, tell
from amalgam8.sidecar.proxy import Confirmed, Desired
from amalgam8.sidecar.tcp import TcpProxy
from amalgam8.sidecar.trust import Trust

PAUSE = 0.05
"""Seconds until a document that did not arrive is sent again."""

CHECK_EVERY = 0.5
"""Seconds between looks at whether nginx has been started again, and knows nothing."""

RenderService = Callable[[ServiceRouting], bytes]

log = logging.getLogger("amalgam8.proxy")


class Documents:
    """Brings nginx to follow ``desired``, and says in ``confirmed`` what it follows."""

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
        self._told = b""  # what is to become of TCP connections, as nginx was told
        self._untold = ""
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
        wanted = document(self._tcp_proxies, desired.routing, self._trust)
        if wanted == self._told:
            return
        try:
            await tell(self._places.tcp, self._places.folder / "tcp.json", wanted)
            self._untold = ""
        except Untold as error:
            self._untold = f"TCP connections go where they went: {error}"
            log.warning("%s", self._untold)
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
        untold = {proxy.service: self._untold for proxy in self._tcp_proxies if self._untold}
        return {**untold, **refused, **self._problems}
