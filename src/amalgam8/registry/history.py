"""What happened lately, for people: the last registrations, ends and changes of each tenant, with reasons.

Wire format: ``GET /api/v1/events`` (``docs/reference/registry-api.md``). Kept in memory by each process, and
lost with it. Refuses to keep renewals, of which there are too many to be read.
"""

import time
from collections import deque
from collections.abc import Callable

import msgspec

from amalgam8.registry.lease import rfc3339
from amalgam8.registry.store import Happened

KEPT = 1000
"""Events of each tenant."""

_REASONS = {
    "registered": "it is new",
    "changed": "it registered again with other content",
    "removed": "it was deregistered",
    "expired": "it was not renewed in time",
}


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event; ``time`` is RFC 3339. Of a freeze it names no instance."""

    time: str
    event: str
    reason: str
    service_name: str = ""
    id: str = ""
    status: str = ""


class History:
    """All tenants' events, and which tenants' expiry is frozen. ``wall`` is Unix time."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._events: dict[str, deque[tuple[float, Happened]]] = {}
        self.frozen: set[str] = set()

    def happened(self, event: Happened) -> None:
        if event.what == "renewed":
            return
        if event.what == "frozen":
            self.frozen.add(event.tenant)
        elif event.what == "thawed":
            self.frozen.discard(event.tenant)
        kept = self._events.get(event.tenant)
        if kept is None:
            kept = self._events[event.tenant] = deque(maxlen=KEPT)
        kept.append((self._wall(), event))

    def events(self, tenant: str, service: str = "") -> list[Event]:
        """The tenant's, oldest first; of one service, or of all (and then freezes too)."""
        kept = self._events.get(tenant, ())
        return [_event(*one) for one in kept if not service or one[1].service == service]


def _event(seconds: float, of: Happened) -> Event:
    reason = of.reason or _REASONS.get(of.what, "")
    return Event(rfc3339(seconds), of.what, reason, of.service, of.id, of.status)
