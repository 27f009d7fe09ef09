"""A tenant with sidecars in virtual time: they follow the rules, make calls and count them as they are split.

What a version does with its calls is the test's to say. Nothing here waits: ``run`` turns the clock.
"""

import uuid
from collections.abc import Callable
from itertools import count

from amalgam8.controller import lapse
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.rulebook import create
from amalgam8.controller.store import Store
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.caller import Caller
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport
from amalgam8.model.rule import Rule
from amalgam8.model.traffic import Count, Tally, Traffic
from tests.controller.rules import route
from tests.controller.serving import Clock

TICK = 0.25
REPORT_EVERY = 2.0
ORDER = Order("reviews", ("v2",), (5.0, 50.0, 100.0), interval=10.0)


class Sidecar:
    """One that calls ``reviews`` ``rate`` times a second."""

    def __init__(self, rate: float) -> None:
        self.id = str(uuid.uuid4())
        self.caller = Caller("web")
        self.rate = rate
        self.epoch = "1"
        self.follows = True
        self.rejects = False
        self.revision, self.hash = 0, ""
        self.sums: dict[str, list[float]] = {}
        self.due = 0.0


class World:
    """``errors`` and ``seconds`` say for each version how many calls fail, and how long they take."""

    def __init__(self, store: Store, *, sidecars: int = 3, rate: float = 100.0) -> None:
        self.store = store
        self.clock = Clock()
        ids = count()
        self.tenants = Tenants(
            store, 3600.0, now=self.clock, clock=self.clock, new_id=lambda: f"new-{next(ids)}"
        )
        self.rollouts = Rollouts(self.tenants, store.rollouts, self.clock)
        self.sidecars = [Sidecar(rate) for _ in range(sidecars)]
        self.errors: dict[str, float] = {}
        self.seconds: dict[str, int] = {}
        self.without_instances: set[str] = set()
        self.tenant: Tenant
        self.seen: list[float] = []

    async def open(self, *rules: Rule) -> "World":
        self.tenant = await self.tenants.get("default")
        if not self.tenant.mirror.book.revision:
            wanted = rules or (route("base"),)
            await self.tenants.write(self.tenant, lambda book, write: create(book, wanted, write))
        self._report(self.clock())
        return self

    async def start(self, order: Order = ORDER) -> Rollout:
        return await self.rollouts.start(self.tenant, order, "ann")

    async def rollout(self) -> Rollout:
        return (await self.rollouts.all(self.tenant))[0]

    async def run(self, seconds: float, *, until: Callable[[Rollout], bool] | None = None) -> Rollout:
        """Turn the clock; with ``until``, fail unless that comes true within ``seconds``."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.clock.seconds += TICK
            await self.tick()
            found = await self.rollout()
            if until is not None and until(found):
                return found
        assert until is None, f"not within {seconds} s: {found}"
        return found

    async def ended(self, within: float = 200.0) -> Rollout:
        return await self.run(within, until=lambda rollout: not rollout.active)

    async def tick(self) -> None:
        await lapse.sweep(self.tenants)
        for sidecar in self.sidecars:
            self._call(sidecar)
        self._report(self.clock())
        await self.rollouts.look()

    def split(self) -> dict[str, float]:
        """The share of each version, as the rules have it now."""
        rule = self.tenant.mirror.book.by_destination["reviews"][0]
        assert rule.route is not None
        given = sum(backend.weight for backend in rule.route.backends)
        return {backend.tags[0]: backend.weight or 1 - given for backend in rule.route.backends}

    def _call(self, sidecar: Sidecar) -> None:
        for version, share in self.split().items():
            calls = sidecar.rate * TICK * share
            missed = version in self.without_instances
            sums = sidecar.sums.setdefault("" if missed else f"{version},x", [0.0, 0.0, 0.0])
            sums[0] += calls
            sums[1] += calls * (1 if missed else self.errors.get(version, 0.0))
            sums[2] += calls if missed else 0

    def _report(self, now: float) -> None:
        for sidecar in self.sidecars:
            plan = self.tenant.plans.plan(sidecar.caller)
            moved = sidecar.follows and plan.hash != sidecar.hash
            if now < sidecar.due and not moved:
                continue
            if sidecar.follows:
                sidecar.revision, sidecar.hash = plan.revision, plan.hash
            sidecar.due = now + REPORT_EVERY
            report = SidecarReport(
                self.tenant.fleet.key(sidecar.id),
                sidecar.caller.service,
                plan=PlanStamp(sidecar.revision, sidecar.hash),
                rejected=(Rejection("reviews", "no"),) if sidecar.rejects else (),
            )
            self.tenant.calls.take(sidecar.id, self._traffic(sidecar), now)
            self.tenant.fleet.report(sidecar.id, report, now)

    def _traffic(self, sidecar: Sidecar) -> Traffic:
        counts = []
        for version, (calls, failed, missed) in sidecar.sums.items():
            place = self.seconds.get(version.split(",")[0], 3)
            times = (*[0] * place, int(calls))
            counts.append(Count("reviews", version, Tally(int(calls), int(failed), int(missed), times)))
        return Traffic(sidecar.epoch, tuple(counts))


async def world(store: Store | None = None, **settings: float) -> World:
    made = World(
        store or MemoryStore(),
        sidecars=int(settings.get("sidecars", 3)),
        rate=settings.get("rate", 100.0),
    )
    return await made.open()
