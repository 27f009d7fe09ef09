"""Leases this sidecar's share of budgets that the fleet shares: says what is wanted, follows what it is told.

Shares come with the controller's stream, and with the answers to reports. While calls come it reports every
quarter of a second or as the controller says, else every KEEP seconds. Without the controller each share
stays what it was. Refuses to stand in a call's way: proxies refuse calls by themselves.
"""

import asyncio
import secrets
from collections.abc import Mapping

from amalgam8.clients.controller import ControllerClient
from amalgam8.model.errors import A8Error
from amalgam8.model.slices import BUDGETS_LIMIT, FIRST_SHARE, SliceReport, Slices, Wanted
from amalgam8.routing.plan import DestinationPlan
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.follow import Seen
from amalgam8.sidecar.proxy import Demand, Leasing

KEEP = 5.0
WITHIN = 2.0
"""Seconds that a report may take: a later one says more."""

_log = Log("sidecar.slices")

Budgets = Mapping[str, str]
"""The rule of each budget."""


class SliceLease:
    """The shares of sidecar ``identity``; ``told`` is what the stream said last."""

    def __init__(
        self,
        controller: ControllerClient,
        identity: str,
        seen: Latest[Seen],
        key: Latest[str],
        told: Latest[Slices],
        proxy: Leasing,
    ) -> None:
        self._controller = controller
        self._identity = identity
        self._seen = seen
        self._key = key
        self._told = told
        self._proxy = proxy
        self._epoch = secrets.token_hex(8)
        self._parts: Mapping[str, DestinationPlan] | None = None
        self._budgets: Budgets = {}
        self._last: dict[str, Demand] = {}
        self._looked = 0.0
        self._passed: dict[str, int] = {}
        self._reported = float("-inf")
        self._every = Slices().every
        self._calling = False
        self._failing = False

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._report())

    async def _follow(self) -> None:
        version = 0
        while True:
            version = await self._told.newer(version)
            self._share(self._told.value.slices)

    async def _report(self) -> None:
        while True:
            version = self._seen.version
            due = asyncio.get_running_loop().time() - self._looked >= self._every
            if self._learn() or (self._budgets and due):
                await self._look()
            try:
                async with asyncio.timeout(self._every if self._budgets else None):
                    await self._seen.newer(version)
            except TimeoutError:
                pass

    def _learn(self) -> bool:
        """Take in which budgets the Plan names; whether there are others than before."""
        plan = self._seen.value.plan
        parts = plan.parts if plan else None
        if parts is self._parts:
            return False
        self._parts = parts
        found = budgets(parts or {})
        self._passed = {rule: self._passed.get(rule, 0) for rule in found.values()}
        if found.keys() == self._budgets.keys():
            return False
        self._budgets = found
        self._share({})
        self._reported = float("-inf")
        return True

    def _share(self, told: Mapping[str, float]) -> None:
        """Let the proxy follow what was told; budgets of which nothing was told keep what they have."""
        before = self._proxy.slices.value
        shares = {name: told.get(name, before.get(name, FIRST_SHARE)) for name in self._budgets}
        if shares != before:
            self._proxy.slices.set(shares)

    async def _look(self) -> None:
        """Look at what came, and report it if there is something to say."""
        now = asyncio.get_running_loop().time()
        demand = await self._proxy.demand()
        seconds = max(now - self._looked, 0.001)
        rates: dict[str, float] = {}
        for rule in set(self._budgets.values()):
            calls = _since(demand.get(rule, Demand()), self._last.get(rule, Demand()))
            rates[rule] = calls.calls / seconds
            self._passed[rule] = self._passed.get(rule, 0) + calls.passed
        self._last, self._looked = dict(demand), now
        calling, was_calling = any(rates.values()), self._calling
        if not self._key.value or not (calling or was_calling or now - self._reported >= KEEP):
            return
        self._calling = calling
        shares = self._proxy.slices.value
        wanted = tuple(
            Wanted(name, round(rates[rule], 3), self._passed[rule], shares.get(name, FIRST_SHARE))
            for name, rule in self._budgets.items()
        )
        await self._send(SliceReport(self._key.value, self._epoch, wanted), now)

    async def _send(self, report: SliceReport, now: float) -> None:
        try:
            answer = await self._controller.want(self._identity, report, timeout=WITHIN)
        except A8Error as error:
            if not self._failing:
                _log.info("shares stay what they are", error=error)
            self._failing = True
            return
        self._failing = False
        self._reported = now
        self._every = min(max(answer.every, 0.1), KEEP)
        if answer.slices:
            self._share(answer.slices)


def budgets(parts: Mapping[str, DestinationPlan]) -> dict[str, str]:
    """The rule of each budget that a Plan names; what is above BUDGETS_LIMIT stays at FIRST_SHARE."""
    found = {
        limit.budget: entry.rule
        for part in parts.values()
        for entry in part.limits
        for limit in entry.limits
        if limit.budget
    }
    return dict(sorted(found.items())[:BUDGETS_LIMIT])


def _since(now: Demand, before: Demand) -> Demand:
    """What came since; a proxy that counts less than before has begun anew."""
    if now.calls < before.calls or now.passed < before.passed:
        return now
    return Demand(now.calls - before.calls, now.passed - before.passed)
