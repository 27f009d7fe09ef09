"""The store in memory: leases are soft state, which sidecars bring back after a restart.

Its epoch is new with each process. Refuses to be shared: one event loop, one writer.
"""

import secrets
import time
from collections.abc import Callable, Collection

from amalgam8.model.errors import CapacityExceeded, InstanceGone
from amalgam8.model.instance import Instance
from amalgam8.registry.lease import LapseQueue, Lease
from amalgam8.registry.store import Happened, Observer, What
from amalgam8.registry.view import View

UNLIMITED = -1


class MemoryStore:
    """``clock`` counts seconds for leases and never jumps; ``wall`` is Unix time, only shown.

    ``capacity`` bounds the instances of each tenant; UNLIMITED does not.
    """

    def __init__(
        self,
        *,
        capacity: int = UNLIMITED,
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
        else:
            lease.renew(self._clock(), self._wall())
            if lease.instance == instance:
                self._told("renewed", lease)
            else:
                lease.replace(instance)
                view.put(lease)
                self._told("changed", lease)
        self._queue.put(lease)

    async def renew(self, tenant: str, identity: str) -> None:
        lease = self._lease(tenant, identity)
        lease.renew(self._clock(), self._wall())
        self._told("renewed", lease)

    async def remove(self, tenant: str, identity: str) -> None:
        self._end(self._lease(tenant, identity), "removed")

    async def expire(self) -> int:
        count = 0
        for lease in self._queue.lapsed(self._clock()):
            self._end(lease, "expired")
            count += 1
        return count

    def _lease(self, tenant: str, identity: str) -> Lease:
        lease = self.view(tenant).get(identity)
        if lease is None:
            raise InstanceGone(
                f"there is no instance with the id {identity[:64]!r} (any more); register it again"
            )
        return lease

    def _end(self, lease: Lease, what: What) -> None:
        self._queue.drop(lease)
        self.view(lease.tenant).drop(lease)
        self._told(what, lease)

    def _told(self, what: What, lease: Lease) -> None:
        self._observe(Happened(lease.tenant, what, lease.instance.service_name, lease.instance.id))
