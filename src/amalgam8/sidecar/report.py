"""Tells the controller what the proxy has confirmed and counted: at every change, when the controller is
back, and every PERIOD seconds, or sooner where the controller asks for it. A failed report is tried again
quietly, the newest only. Refuses to report what is merely desired; before anything is confirmed it says so,
with an empty stamp.

Wire format: ``PUT /v1/sidecars/{id}`` (``amalgam8.model.report``).
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from amalgam8.clients.controller import ControllerClient
from amalgam8.model.caller import Caller
from amalgam8.model.errors import A8Error
from amalgam8.model.report import SidecarReport
from amalgam8.model.traffic import Traffic
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.proxy import Confirmed, Stamp

PERIOD = 15.0
SHORTEST = 1.0
"""Seconds between two looks at what the proxy counted; the controller cannot ask for reports more often."""

WITHIN = 5.0
LEAVE_WITHIN = 1.0
"""Seconds that the last report may take: a controller that is away must not hold up the end."""

RETRIES = (0.25, 1.0, 5.0)
"""Seconds until a failed report is tried again; the last is for all that follow."""

_log = Log("sidecar.report")


async def no_traffic() -> Traffic | None:
    """For a proxy that counts nothing."""
    return None


class Reporter:
    """Sends reports of sidecar ``identity`` as long as ``key`` is known."""

    def __init__(
        self,
        controller: ControllerClient,
        identity: str,
        caller: Caller,
        proxy: str,
        confirmed: Latest[Confirmed | None],
        key: Latest[str],
        traffic: Callable[[], Awaitable[Traffic | None]] = no_traffic,
    ) -> None:
        self.sent = 0
        self.failed = 0
        self._controller = controller
        self._identity = identity
        self._caller = caller
        self._proxy = proxy
        self._confirmed = confirmed
        self._key = key
        self._traffic = traffic
        self._counted = float("-inf")
        self._period = PERIOD
        self._wanted = asyncio.Event()
        self._failures = 0
        self._left = False
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._want_at_each(self._confirmed))
            tasks.create_task(self._want_at_each(self._key))
            tasks.create_task(self._send_for_ever())

    def report(self, traffic: Traffic | None = None) -> SidecarReport:
        """What would be sent now."""
        confirmed = self._confirmed.value or Confirmed(Stamp())
        return SidecarReport(
            key=self._key.value,
            service=self._caller.service,
            tags=self._caller.tags,
            proxy=self._proxy,
            plan=confirmed.stamp.plan,
            registry=confirmed.stamp.registry,
            rejected=confirmed.rejected,
            traffic=traffic,
        )

    async def leave(self) -> None:
        """Say that this sidecar is ending, so that no change waits for it; never again after that."""
        self._left = True
        if not self._key.value:
            return
        last = msgspec.structs.replace(self.report(await self._traffic()), leaving=True)
        try:
            # Not beside a report that is under way: that one could arrive after it.
            async with asyncio.timeout(LEAVE_WITHIN), self._turn:
                await self._controller.report(self._identity, last)
        except (A8Error, TimeoutError) as error:
            _log.info("could not tell the controller of the end", error=error)

    async def _want_at_each(self, cell: Latest[Confirmed | None] | Latest[str]) -> None:
        version = 0
        while True:
            version = await cell.newer(version)
            self._wanted.set()

    async def _send_for_ever(self) -> None:
        while True:
            pause = RETRIES[min(self._failures, len(RETRIES)) - 1] if self._failures else self._period
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            if self._key.value and not self._left:
                await self._send()

    async def _send(self) -> None:
        try:
            async with self._turn:
                report = self.report(await self._count())
                answer = await self._controller.report(self._identity, report, timeout=WITHIN)
        except A8Error as error:
            if not self._failures:
                _log.info("not reported, trying again", error=error)
            self._failures += 1
            self.failed += 1
            return
        self._period = min(max(answer.report_in or PERIOD, SHORTEST), PERIOD)
        self._failures = 0
        self.sent += 1

    async def _count(self) -> Traffic | None:
        """What the proxy counted, unless that was sent a moment ago: sums lose nothing by waiting."""
        now = asyncio.get_running_loop().time()
        if now - self._counted < SHORTEST / 2:
            return None
        self._counted = now
        return await self._traffic()
