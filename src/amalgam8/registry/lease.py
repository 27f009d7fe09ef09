"""Leases, and a queue that knows which of them lapse next and how many are late. Driven by whatever
time it is handed.

A lease lapses once more than its ttl has passed since its last renewal; OUT_OF_SERVICE never does. A
renewal costs nothing but a note of the time: the queue is looked at only when something is due, and a
lease that was renewed meanwhile goes back into it. Refuses to read a clock.
"""

import heapq
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.preservation import LATE_AFTER

NEVER = float("inf")
STRETCH = 0.25
"""Seconds: as often as somebody looks what has lapsed. A power of two, so that products are exact."""


class Stands(Protocol):
    """What leases stand on; one of each view that shows them. ``alone`` holds nothing but itself."""

    alone: "tuple[Stands, ...]"

    def touched(self) -> None: ...


class Lease:
    """An instance and when it was last heard of.

    ``renewed`` is on the clock of leases, ``heard`` the same in Unix seconds, ``since`` the first time.
    ``instance`` has no ``last_heartbeat``; ``shown`` and ``json`` put it in.
    """

    __slots__ = ("_json", "_shelves", "heard", "instance", "late", "queued", "renewed", "since", "tenant")

    def __init__(self, tenant: str, instance: Instance, renewed: float, heard: float) -> None:
        self.tenant = tenant
        self.instance = instance
        self.renewed = renewed
        self.heard = heard
        self.since = heard
        self.queued = NEVER
        self.late = False
        self._json = b""
        self._shelves: tuple[Stands, ...] = ()

    def stands_on(self, shelf: "Stands") -> None:
        """Tell ``shelf`` from now on when this is touched."""
        if not self._shelves:
            self._shelves = shelf.alone
        elif shelf not in self._shelves:
            self._shelves = (*self._shelves, shelf)

    def leaves(self, shelf: "Stands") -> None:
        self._shelves = tuple(one for one in self._shelves if one is not shelf)

    def _touched(self) -> None:
        self._json = b""
        for shelf in self._shelves:
            shelf.touched()

    @property
    def lapses(self) -> float:
        """The last moment at which it still holds."""
        if self.instance.status == "OUT_OF_SERVICE":
            return NEVER
        return self.renewed + self.instance.ttl

    @property
    def late_from(self) -> float:
        """When it will have gone too long without a renewal."""
        if self.instance.status == "OUT_OF_SERVICE":
            return NEVER
        return self.renewed + self.instance.ttl * LATE_AFTER

    def renew(self, now: float, wall: float) -> None:
        self.renewed = now
        self.heard = wall
        self._touched()

    def replace(self, instance: Instance) -> None:
        """Put other content under the same id."""
        self.instance = instance
        self._touched()

    def shown(self) -> Instance:
        """The instance as everybody sees it."""
        return shown(self.instance, self.heard)

    def json(self) -> bytes:
        """``shown`` as JSON, made once after each change or renewal."""
        if not self._json:
            self._json = msgspec.json.encode(self.shown())
        return self._json


def shown(instance: Instance, heard: float) -> Instance:
    """The instance as everybody sees it; it was heard of at ``heard`` (Unix s)."""
    return msgspec.structs.replace(instance, last_heartbeat=rfc3339(heard), extension=msgspec.UNSET)


def rfc3339(seconds: float) -> str:
    """``2030-01-31T12:00:00.000000Z``."""
    # strftime would say the same and take three times as long; it is asked for with every registration.
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"


class LapseQueue:
    """Leases by the stretch of time in which they may lapse. Each stands in it once at the most.

    What one of them costs does not depend on how many others there are.
    """

    def __init__(self) -> None:
        # By the number of the stretch. One that has emptied goes when its time comes.
        self._stretches: dict[float, dict[Lease, None]] = {}
        self._order: list[float] = []
        self._late: Counter[str] = Counter()

    def late(self, tenant: str) -> int:
        """How many of the tenant's leases are late as of the last ``lapsed``, those taken out included."""
        return self._late[tenant]

    def on_time(self, lease: Lease) -> None:
        """A late lease was renewed, or has ended."""
        if lease.late:
            lease.late = False
            self._late[lease.tenant] -= 1
            if not self._late[lease.tenant]:
                del self._late[lease.tenant]

    def __len__(self) -> int:
        return sum(map(len, self._stretches.values()))

    def put(self, lease: Lease) -> None:
        """Take in a lease, or move it forward; one that is due later than it is queued stays where it is."""
        due = lease.lapses if lease.late else lease.late_from
        if due >= lease.queued:
            return
        self.drop(lease)
        lease.queued = due
        number = due // STRETCH
        stretch = self._stretches.get(number)
        if stretch is None:
            stretch = self._stretches[number] = {}
            heapq.heappush(self._order, number)
        stretch[lease] = None

    def drop(self, lease: Lease) -> None:
        """Forget a lease that has ended."""
        if lease.queued != NEVER:
            del self._stretches[lease.queued // STRETCH][lease]
            lease.queued = NEVER

    def lapsed(self, now: float) -> list[Lease]:
        """Take out the leases that have lapsed before ``now``, earliest first; note which others are late."""
        found = []
        for lease in self._due(now):
            lease.queued = NEVER
            if not lease.late and lease.late_from < now:
                lease.late = True
                self._late[lease.tenant] += 1
            if lease.lapses < now:
                found.append(lease)
            else:
                self.put(lease)
        return sorted(found, key=lambda lease: lease.lapses)

    def _due(self, now: float) -> list[Lease]:
        """Take out all that are queued for a time before ``now``."""
        due: list[Lease] = []
        while self._order and (self._order[0] + 1) * STRETCH <= now:
            due += self._stretches.pop(heapq.heappop(self._order))
        if self._order and self._order[0] * STRETCH < now:
            stretch = self._stretches[self._order[0]]
            begun = [lease for lease in stretch if lease.queued < now]
            for lease in begun:
                del stretch[lease]
            due += begun
        return due
