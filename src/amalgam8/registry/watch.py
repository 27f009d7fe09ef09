"""Watch streams of instances: what ``web.sse`` streams, made once for all who watch the same.

Wire format: ``GET /api/v1/instances/watch`` (``docs/reference/streams.md``). Watchers of one tenant and
one choice of services share a source, and watchers at the same place share the bytes. Refuses to queue:
each watcher is a cursor into the tenant's feed.
"""

import time
from collections.abc import Callable

import msgspec

from amalgam8.model.errors import TooManyWatchers
from amalgam8.model.stream import PROTOCOL, Hello, InstanceDelta
from amalgam8.registry.store import Store
from amalgam8.registry.view import Change, View
from amalgam8.web.sse import Event, EventStream

WATCHERS_LIMIT = 10_000
SERVICES_LIMIT = 100
"""Services that one watcher may choose."""

SNAPSHOT_FOR = 1.0
"""Seconds for which a snapshot is handed out again while nothing changes; renewals are no change."""

DELTAS_KEPT = 16

_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""Metadata comes back as it was sent, but an event's data must be one line; in JSON both are white space."""

Services = frozenset[str]
"""The services chosen; empty: all."""

_Watched = tuple[str, Services, str]
"""Tenant, services, and the epoch, so that nobody is shown what is left of an earlier one."""


class InstanceSource:
    """A Source for ``EventStream``: a tenant's instances, of some services or all, in every status."""

    def __init__(
        self,
        epoch: str,
        view: View,
        services: Services = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.epoch = epoch
        self._view = view
        self._services = services
        self._clock = clock
        self._snapshot: Event | None = None
        self._made = 0.0
        self._published = -1
        self._deltas: dict[int, tuple[int, Event | None]] = {}

    def hello(self) -> bytes:
        return msgspec.json.encode(Hello(self.epoch, self._view.feed.revision, PROTOCOL))

    def snapshot(self) -> Event:
        """All instances now; the same bytes as before if they are young and nothing has changed."""
        revision, now = self._view.feed.revision, self._clock()
        kept = self._snapshot
        if kept is not None and kept.revision == revision and now - self._made < SNAPSHOT_FOR:
            return kept
        if self._services:
            leases = [lease for name in self._services for lease in self._view.of_service(name)]
        else:
            leases = list(self._view)
        data = b'{"revision":%d,"instances":[%b]}' % (revision, b",".join([lease.json() for lease in leases]))
        self._snapshot = Event("snapshot", revision, data.translate(_ONE_LINE))
        self._made = now
        return self._snapshot

    def since(self, revision: int) -> tuple[int, Event | None]:
        """What was published after ``revision``: of each instance its last change. May raise Gap."""
        feed = self._view.feed
        if feed.published != self._published or len(self._deltas) >= DELTAS_KEPT:
            self._published = feed.published
            self._deltas.clear()
        if (kept := self._deltas.get(revision)) is not None:
            return kept
        reached, changes = feed.since(revision)
        made = self._deltas[revision] = (reached, self._delta(reached, changes))
        return made

    async def newer(self, revision: int) -> int:
        return await self._view.feed.newer(revision)

    def _delta(self, revision: int, changes: list[Change]) -> Event | None:
        last = {
            change.id: change for change in changes if not self._services or change.service in self._services
        }
        if not last:
            return None
        shown = {identity: change.shown() for identity, change in last.items()}
        upserted = tuple(instance for instance in shown.values() if instance is not None)
        removed = tuple(identity for identity, instance in shown.items() if instance is None)
        data = msgspec.json.encode(InstanceDelta(revision, upserted, removed))
        return Event("delta", revision, data.translate(_ONE_LINE))


class Watchers:
    """Opens streams, bounds how many there are, and lets those who watch the same share a source."""

    def __init__(self, store: Store, limit: int = WATCHERS_LIMIT) -> None:
        self._store = store
        self._limit = limit
        self._sources: dict[_Watched, InstanceSource] = {}
        self._open: dict[_Watched, int] = {}

    def count(self, tenant: str) -> int:
        """Streams of this tenant that are open."""
        return sum(number for (whose, *_), number in self._open.items() if whose == tenant)

    def stream(self, tenant: str, services: Services, resume: str) -> EventStream:
        """The response to a watcher that resumes at ``resume``, its ``Last-Event-ID``.

        Raises:
            TooManyWatchers: as many as there may be are watching.
        """
        if sum(self._open.values()) >= self._limit:
            raise TooManyWatchers(f"there are {self._limit} watchers, and no room for more; try again later")
        view = self._store.view(tenant)  # first, since a store that was never reached knows no epoch either
        key = (tenant, services, self._store.epoch)
        if key not in self._sources:
            self._sources[key] = InstanceSource(self._store.epoch, view, services)
        self._open[key] = self._open.get(key, 0) + 1

        def ended() -> None:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key], self._sources[key]

        return EventStream(self._sources[key], resume, ended)
