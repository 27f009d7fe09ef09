"""All rollouts: starting them, what people say to them, and the loop that carries them on.

Of several controllers on one store one drives, for LEASE seconds at a time; each may start, pause, resume and
abort, which is a write to the record that the driving one finds. Refuses two rollouts of one service.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rollout_driver import Driver, Now
from amalgam8.controller.rollout_rules import check_free, default_route
from amalgam8.controller.rollout_store import RolloutStore
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.errors import (
    A8Error,
    RolloutNotFound,
    RolloutRunning,
    Superseded,
    TooManyRollouts,
    Unavailable,
)
from amalgam8.model.rule import rfc3339
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log

TICK = 0.25
IDLE_TICK = 1.0
"""Seconds between two looks, while there is a rollout and while there is none."""

LEASE = 10.0
ACTIVE_LIMIT = 100
"""Rollouts of one tenant at the same time."""

ATTEMPTS = 5

_log = Log("rollout")


class Shown(msgspec.Struct, frozen=True):
    """A rollout as clients see it; ``share`` in percent, ``now`` None where another controller drives it."""

    id: str
    service: str
    version: tuple[str, ...]
    old: tuple[str, ...]
    steps: tuple[float, ...]
    interval: float
    max_errors: float
    max_p99: float | None
    min_requests: int
    state: str
    step: int
    share: float
    reason: str
    rule: str
    author: str
    created: str
    ended: str
    events: tuple[Any, ...]
    now: dict[str, Any] | None = None


class Rollouts:
    """The rollouts of all tenants on ``store``; ``clock`` is steady, in seconds."""

    def __init__(
        self, tenants: Tenants, store: RolloutStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tenants = tenants
        self._store = store
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._drivers: dict[tuple[str, str], Driver] = {}
        self._wake = Latest(0)
        self._starting = asyncio.Lock()

    async def start(self, tenant: Tenant, order: Order, author: str = "") -> Rollout:
        """Begin a rollout.

        Raises:
            NoDefaultVersion: the service has no default route to build on.
            RolloutRunning: the service has a rollout already.
            TooManyRollouts: above ACTIVE_LIMIT.
        """
        async with self._starting:
            return await self._start(tenant, order, author)

    async def _start(self, tenant: Tenant, order: Order, author: str) -> Rollout:
        active = [one for one in await self._store.all(tenant.name) if one.active]
        for one in active:
            if one.order.service == order.service:
                raise RolloutRunning(f"{order.service} has a rollout already: {one.id} is {one.state}")
        if len(active) >= ACTIVE_LIMIT:
            raise TooManyRollouts(f"{ACTIVE_LIMIT} rollouts are running, which is the limit")
        base = default_route(tenant.mirror.book, order)
        at = rfc3339(self._tenants.now())
        rollout = Rollout(
            f"{order.service}-{secrets.token_hex(3)}", 0, order, base, "running", at, author
        ).went(at, f"started, from {','.join(base.route.backends[0].tags) if base.route else ''}")
        check_free(tenant.mirror.book, rollout)
        await self._store.put(tenant.name, rollout)
        self._wake.set(0)
        return rollout

    async def all(self, tenant: Tenant) -> list[Rollout]:
        """The newest first."""
        return await self._store.all(tenant.name)

    async def find(self, tenant: Tenant, identity: str) -> Rollout:
        """One of them; raises RolloutNotFound."""
        for rollout in await self._store.all(tenant.name):
            if rollout.id == identity:
                return rollout
        raise RolloutNotFound(f"there is no rollout {identity}")

    async def pause(self, tenant: Tenant, identity: str) -> Rollout:
        """Stay at the present share; a version that does badly is taken back all the same."""
        return await self._say(tenant, identity, "running", "paused", {"state": "paused"})

    async def resume(self, tenant: Tenant, identity: str) -> Rollout:
        """Go on, with a whole interval at the present share."""
        return await self._say(tenant, identity, "paused", "resumed", {"state": "running"})

    async def abort(self, tenant: Tenant, identity: str) -> Rollout:
        """Give the old version all calls again."""
        changes = {"state": "returning", "outcome": "aborted", "reason": "aborted"}
        return await self._say(tenant, identity, "", "aborted", changes)

    def shown(self, tenant: Tenant, rollout: Rollout) -> Shown:
        """It as clients see it."""
        driver = self._drivers.get((tenant.name, rollout.id))
        order = msgspec.structs.asdict(rollout.order)
        running = rollout.state in ("running", "paused")
        return Shown(
            id=rollout.id,
            **order,
            old=rollout.old,
            state=rollout.state,
            step=rollout.step,
            share=_share(rollout),
            reason=rollout.reason,
            rule=rollout.rule,
            author=rollout.author,
            created=rollout.created,
            ended=rollout.ended,
            events=rollout.events,
            now=_now(driver.now(rollout)) if driver and running else None,
        )

    async def follow(self) -> None:
        """Carry all rollouts on; runs until it is cancelled."""
        while True:
            version = self._wake.version
            busy = await self.look()
            try:
                async with asyncio.timeout(TICK if busy else IDLE_TICK):
                    await self._wake.newer(version)
            except TimeoutError:
                pass

    async def look(self) -> bool:
        """Carry each on by one step; whether there was any."""
        try:
            active = await self._store.active()
            if not active or not await self._store.lead(self._holder, LEASE):
                self._drivers.clear()
                return bool(active)
            driven: set[tuple[str, str]] = set()
            for name, rollout in sorted(active, key=lambda pair: (pair[1].created, pair[1].id)):
                service = name, rollout.order.service
                await self._step(name, rollout, alone=service not in driven)
                driven.add(service)
        except Unavailable as error:
            _log.warning("rollouts cannot go on", error=error)
            return False
        known = {(name, rollout.id) for name, rollout in active}
        self._drivers = {key: driver for key, driver in self._drivers.items() if key in known}
        return True

    async def _step(self, name: str, rollout: Rollout, *, alone: bool) -> None:
        """``alone``: no older rollout of the service is active; two may begin at once on two controllers."""
        tenant = await self._tenants.get(name)
        key = (name, rollout.id)
        if key not in self._drivers:
            self._drivers[key] = Driver(self._tenants, tenant, self._clock)
        try:
            if not alone and rollout.state != "returning":
                raise RolloutRunning(f"{rollout.order.service} has a rollout already")
            found = await self._drivers[key].step(rollout)
        except Unavailable:
            raise
        except A8Error as error:
            at = rfc3339(self._tenants.now())
            found = None if rollout.state == "returning" else rollout.turned(at, str(error), "aborted")
        if found is None:
            return
        try:
            await self._store.put(name, found)
        except Superseded:
            return  # somebody said something to it meanwhile: look again
        _log.info("rollout", tenant=name, rollout=rollout.id, state=found.state, what=found.events[-1].text)

    async def _say(
        self, tenant: Tenant, identity: str, needed: str, text: str, changes: dict[str, Any]
    ) -> Rollout:
        for _ in range(ATTEMPTS):
            rollout = await self.find(tenant, identity)
            if not rollout.active or (needed and rollout.state != needed):
                raise RolloutRunning(f"rollout {identity} is {rollout.state}: it cannot be {text}")
            if rollout.state in ("returning", "finishing"):
                return rollout
            said = rollout.went(rfc3339(self._tenants.now()), text, **changes)
            try:
                await self._store.put(tenant.name, said)
            except Superseded:
                continue
            self._wake.set(0)
            return said
        raise Superseded(f"others wrote rollout {identity} first {ATTEMPTS} times in a row; try again")


def _share(rollout: Rollout) -> float:
    if rollout.state == "done":
        return 100.0
    return rollout.share if rollout.state in ("running", "paused", "finishing") else 0.0


def _now(now: Now) -> dict[str, Any]:
    figures = {
        name: {
            "requests": tally.requests,
            "error_rate": round(tally.error_rate, 6),
            "p99": tally.quantile(0.99),
        }
        for name, tally in (("new", now.new), ("old", now.old))
    }
    return {"phase": now.phase, "seconds": now.seconds, **figures}
