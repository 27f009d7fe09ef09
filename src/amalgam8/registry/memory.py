"""The store in memory: leases are soft state, which sidecars bring back after a restart.

Its epoch is new with each process. Refuses to be shared: one event loop, one writer.
"""

import secrets
import time
from collections.abc import Callable, Collection, Sequence

from amalgam8.model.errors import CapacityExceeded, InstanceGone
from amalgam8.model.instance import Instance
from amalgam8.registry.lease import LapseQueue, Lease
from amalgam8.registry.preservation import LIMIT, RENEWALS, Preservation, Step
from amalgam8.registry.store import Happened, Observer, What
from amalgam8.registry.view import View

UNLIMITED = -1


class MemoryStore:
    """``clock`` counts seconds for leases and never jumps; ``wall`` is Unix time, only shown.

    ``capacity`` bounds the instances of each tenant; UNLIMITED does not. ``freeze_limit`` (s) is the longest
    time for which expiry may freeze; 0: it never does.
    """

    waits = False

    def __init__(
        self,
        *,
        capacity: int = UNLIMITED,
        freeze_limit: float = LIMIT,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        observe: Observer = lambda _happened: None,
    ) -> None:
        self.epoch = secrets.token_hex(8)
        self._capacity = capacity
        self._clock = clock
        self._wall = wall
        self._observe = observe
        self._views: dict[str, View] = {}
        self._queue = LapseQueue()
        self._freeze_limit = freeze_limit
        # Of tenants with leases that have lapsed and are not judged yet, or are held.
        self._held: dict[str, _Held] = {}

    def tenants(self) -> Collection[str]:
        return self._views.keys()

    def view(self, tenant: str) -> View:
        found = self._views.get(tenant)
        if found is None:
            found = self._views[tenant] = View()
        return found

    async def register(self, tenant: str, instance: Instance) -> None:
        view = self.view(tenant)
        lease = view.get(instance.id)
        if lease is None:
            if self._capacity != UNLIMITED and len(view) >= self._capacity:
                raise CapacityExceeded(f"there is no room for more than {self._capacity} instances")
            lease = Lease(tenant, instance, self._clock(), self._wall())
            view.put(lease)
            self._told("registered", lease)
            self._queue.put(lease)
        else:
            self._take(lease, instance)

    async def renew(self, tenant: str, identity: str) -> None:
        lease = self._lease(tenant, identity)
        self._renew(lease, self._clock(), self._wall())
        self._told("renewed", lease)

    async def renew_many(self, tenant: str, ids: Sequence[str]) -> list[str]:
        """Renew leases; returns the ids that are unknown."""
        get, now, wall = self.view(tenant).get, self._clock(), self._wall()
        unknown = []
        for identity in ids:
            lease = get(identity)
            if lease is None:
                unknown.append(identity)
            else:
                self._renew(lease, now, wall)
        if renewed := len(ids) - len(unknown):
            self._observe(Happened(tenant, "renewed", "", "", count=renewed))
        return unknown

    async def amend(self, tenant: str, identity: str, change: Callable[[Instance], Instance]) -> None:
        lease = self._lease(tenant, identity)
        self._take(lease, change(lease.instance))

    async def remove(self, tenant: str, identity: str) -> None:
        self._end(self._lease(tenant, identity), "removed")

    async def expire(self) -> int:
        now, count = self._clock(), 0
        for lease in self._queue.lapsed(now):
            self._held_of(lease.tenant).take(lease)
        for tenant in list(self._held):
            held = self._held[tenant]
            late, total = self._queue.late(tenant), self.view(tenant).lapsing
            step = held.preservation.step(
                now, lapsed=len(held.leases), late=late, total=total, period=held.longest / RENEWALS
            )
            if step.turn:
                self._turned(tenant, step, late, total, len(held.leases))
            if step.hold:
                continue
            del self._held[tenant]
            for lease in list(held.leases.values()):
                after = "; expiry was frozen" if step.turn else ""
                reason = (
                    f"not renewed for {now - lease.renewed:.0f} s, its ttl is {lease.instance.ttl} s{after}"
                )
                self._end(lease, "expired", reason)
            count += len(held.leases)
        return count

    def _held_of(self, tenant: str) -> "_Held":
        held = self._held.get(tenant)
        if held is None:
            held = self._held[tenant] = _Held(Preservation(self._freeze_limit))
        return held

    def _turned(self, tenant: str, step: Step, late: int, total: int, held: int) -> None:
        """Say that a tenant's expiry is frozen, or no longer."""
        counts = f"{late} of {total} leases are late"
        if step.hold:
            event = Happened(tenant, "frozen", "", "", reason=f"{counts}: none of them is ended")
        else:
            why = (
                "renewals are back" if step.turn == "recovered" else "it was frozen for as long as it may be"
            )
            event = Happened(tenant, "thawed", "", "", reason=f"{why}: {counts}, {held} end now")
        self._observe(event)

    def _renew(self, lease: Lease, now: float, wall: float) -> None:
        lease.renew(now, wall)
        if lease.late:
            self._queue.on_time(lease)
            held = self._held.get(lease.tenant)
            if held is not None and held.leases.pop(lease.instance.id, None) is not None:
                self._queue.put(lease)

    def _take(self, lease: Lease, instance: Instance) -> None:
        """Put content in place of a lease's, equal or not, and renew it."""
        self._renew(lease, self._clock(), self._wall())
        if lease.instance == instance:
            self._told("renewed", lease)
        else:
            before = lease.instance.status
            lease.replace(instance)
            self.view(lease.tenant).put(lease)
            after = instance.status
            self._told(
                "changed", lease, "" if before == after else f"its status was {before}, and is {after}"
            )
        self._queue.put(lease)

    def _lease(self, tenant: str, identity: str) -> Lease:
        lease = self.view(tenant).get(identity)
        if lease is None:
            raise InstanceGone(
                f"there is no instance with the id {identity[:64]!r} (any more); register it again"
            )
        return lease

    def _end(self, lease: Lease, what: What, reason: str = "") -> None:
        self._queue.drop(lease)
        self._queue.on_time(lease)
        held = self._held.get(lease.tenant)
        if held is not None:
            held.leases.pop(lease.instance.id, None)
        self.view(lease.tenant).drop(lease)
        self._told(what, lease, reason)

    def _told(self, what: What, lease: Lease, reason: str = "") -> None:
        one = lease.instance
        self._observe(Happened(lease.tenant, what, one.service_name, one.id, one.status, reason))


class _Held:
    """Leases of one tenant that have lapsed and are not ended.

    ``longest`` is the longest time to live (s) of all that were held since expiry froze.
    """

    def __init__(self, preservation: Preservation) -> None:
        self.preservation = preservation
        self.leases: dict[str, Lease] = {}
        self.longest = 0

    def take(self, lease: Lease) -> None:
        self.leases[lease.instance.id] = lease
        self.longest = max(self.longest, lease.instance.ttl)
