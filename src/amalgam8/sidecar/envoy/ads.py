"""What to send to Envoy, and when: the aggregated discovery stream as a state machine without I/O.

Make before break, each step on the acknowledgement of the one before, never on a clock: clusters that are
new or changed and their endpoints, then filters that are resources of their own, then routes, then the
clusters that nothing leads to any more, after calls that may still be on their way to them are over.
Endpoints go out by themselves as they change. A newer state may come at any time: each step looks at what
Envoy has and at the newest state, and at nothing else.
Time is an argument, in seconds. Wire format: incremental xDS (``envoy.service.discovery.v3``).
"""

from collections.abc import Iterable, Mapping
from itertools import count

import msgspec

from amalgam8.sidecar.envoy.messages import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, MAIN, ROUTES, Resource

LINGER = 60.0
"""Seconds that a cluster stays at least after the last route to it is gone."""

_UNKNOWN = ""
"""In place of a version: Envoy may have the resource, and nobody knows which."""

KINDS = (CLUSTER, ENDPOINTS, EXTENSION, ROUTES, LISTENER)


class State(msgspec.Struct, frozen=True):
    """Everything that Envoy should have, by kind and name. ``hold``: the longest injected delay, in s.

    ``endpoints`` may hold more than ``clusters``: those of clusters that linger. ``extensions`` are filters
    that routes enable, so routes wait for them; ``connections`` are filters of TCP proxies, which lead to
    clusters, and each stands for itself: one that Envoy refuses holds up nothing else.
    """

    clusters: Mapping[str, Resource] = {}
    endpoints: Mapping[str, Resource] = {}
    extensions: Mapping[str, Resource] = {}
    routes: Mapping[str, Resource] = {}
    listeners: Mapping[str, Resource] = {}
    connections: Mapping[str, Resource] = {}
    hold: float = 0.0

    def of(self, kind: str) -> Mapping[str, Resource]:
        if kind == CLUSTER:
            return self.clusters
        if kind == ENDPOINTS:
            return self.endpoints
        if kind == EXTENSION:
            return {**self.extensions, **self.connections}
        return self.routes if kind == ROUTES else self.listeners


class Request(msgspec.Struct, frozen=True):
    """What Envoy says on the stream; ``error`` is its word against the response with that ``nonce``."""

    kind: str
    nonce: str = ""
    error: str | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = {}


class Response(msgspec.Struct, frozen=True):
    """What to send: resources of one kind that are new, and names of those that are gone."""

    kind: str
    nonce: str
    resources: tuple[Resource, ...] = ()
    removed: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """Envoy does not take this version of a resource."""

    version: str
    words: str


class _Channel:
    """One kind of resource on the stream. At most one response is on its way at a time."""

    def __init__(self) -> None:
        self.asked = False
        self.answered = False
        self.names: set[str] = set()
        self.has: dict[str, str] = {}
        self.flight: Response | None = None
        self.refused: dict[str, Refusal] = {}
        self.suspects: list[tuple[str, ...]] = []

    def wants(self, wanted: Mapping[str, Resource], name: str) -> bool:
        """Whether this resource has to be sent."""
        version = wanted[name].version
        if self.has.get(name) == version:
            return False
        refusal = self.refused.get(name)
        return refusal is None or refusal.version != version

    def settled(self, wanted: Mapping[str, Resource], names: Iterable[str]) -> bool:
        """Whether Envoy has confirmed all of these as wanted."""
        return self.flight is None and all(self.has.get(name) == wanted[name].version for name in names)

    def judged(self, wanted: Mapping[str, Resource]) -> bool:
        """Whether Envoy has confirmed or refused each of these: one that is refused stands for itself."""
        return self.flight is None and all(
            self.has.get(name) == item.version or not self.wants(wanted, name)
            for name, item in wanted.items()
        )


class Ads:
    """The stream's server side. Feed it with ``want``, ``reset`` and ``received``, then ask ``step``."""

    def __init__(self, linger: float = LINGER) -> None:
        self._linger = linger
        self._nonces = count(1)
        self._wanted = State()
        self._channels = {kind: _Channel() for kind in KINDS}
        self._followed: State | None = None
        self._sent_routes: State | None = None
        self._routed: State | None = None
        self._keep_until: dict[str, float] = {}
        self.wake_at: float | None = None
        """When ``step`` has something to do though nothing happened: a cluster may go then."""

    def want(self, state: State) -> None:
        """Follow this state from now on."""
        self._wanted = state

    def reset(self) -> None:
        """The stream opened or closed: what Envoy has is what it says in the first requests of a stream."""
        refused = {kind: channel.refused for kind, channel in self._channels.items()}
        self._channels = {kind: _Channel() for kind in KINDS}
        for kind, channel in self._channels.items():
            channel.refused = refused[kind]

    @property
    def followed(self) -> State | None:
        """The newest state that Envoy has confirmed in full, but for filters that it refuses."""
        return self._followed

    def refused(self, kind: str) -> Mapping[str, Refusal]:
        """What Envoy refused and did not take since, by name."""
        return self._channels[kind].refused

    def held(self, kind: str, name: str) -> str | None:
        """The version of a resource that Envoy has; None: none, or nobody knows which."""
        return self._channels[kind].has.get(name) or None

    @property
    def clusters(self) -> frozenset[str]:
        """The clusters that Envoy has or is about to get, those that linger included."""
        channel = self._channels[CLUSTER]
        coming = channel.flight.resources if channel.flight else ()
        return frozenset({*channel.has, *self._wanted.clusters, *(item.name for item in coming)})

    def received(self, request: Request, now: float) -> None:
        """Take in one request of Envoy's."""
        channel = self._channels.get(request.kind)
        if channel is None:
            return
        first = not channel.asked
        if first:
            channel.asked = True
            channel.has = dict(request.versions)
            if request.kind == CLUSTER:
                kept = self._keep_until
                self._keep_until = {name: kept[name] for name in request.versions if name in kept}
        flight = channel.flight
        if flight is not None and request.nonce == flight.nonce:
            channel.flight = None
            if request.error is None:
                self._accepted(channel, flight, now)
            else:
                self._refused(channel, flight, request.error)
        for name in request.unsubscribe:
            channel.names.discard(name)
            channel.has.pop(name, None)
        for name in request.subscribe:
            # Asked for again: Envoy waits for it, even if it is the same, or came when nobody asked for it.
            if name in channel.names or not first:
                channel.has.pop(name, None)
            channel.names.add(name)

    def step(self, now: float) -> list[Response]:
        """What to send now."""
        out = [
            response
            for response in (
                self._clusters_step(),
                self._named_step(ENDPOINTS, self._channels[ENDPOINTS].names),
                self._extensions_step(),
                self._routes_step(),
                self._named_step(LISTENER, self._wanted.listeners),
                self._removals_step(now),
            )
            if response is not None
        ]
        if self._is_followed():
            self._followed = self._wanted
        return out

    def _accepted(self, channel: _Channel, flight: Response, now: float) -> None:
        again = set()
        for item in flight.resources:
            if flight.kind == CLUSTER and item.name in channel.has:
                again.add(item.name)
            channel.has[item.name] = item.version
            channel.refused.pop(item.name, None)
        for name in flight.removed:
            channel.has.pop(name, None)
            self._keep_until.pop(name, None)
        # A changed cluster warms up anew, and waits for endpoints that it thinks it never had.
        for name in again:
            self._channels[ENDPOINTS].has.pop(name, None)
        if flight.kind == ROUTES and any(item.name == MAIN for item in flight.resources):
            self._moved_on(now)

    def _moved_on(self, now: float) -> None:
        """Routes changed: calls that came before may wait in a delay, with the old route in hand."""
        before, after = self._routed, self._sent_routes
        self._routed = after
        if before is None or after is None:
            return
        until = now + self._linger + before.hold
        for name in before.clusters:
            if before.hold or name not in after.clusters:
                self._keep_until[name] = max(self._keep_until.get(name, 0.0), until)

    @staticmethod
    def _refused(channel: _Channel, flight: Response, words: str) -> None:
        """Of several resources, find the one that is meant: halves are sent on their own."""
        names = tuple(item.name for item in flight.resources)
        if len(names) == 1:
            channel.refused[names[0]] = Refusal(flight.resources[0].version, words)
        elif names:
            middle = len(names) // 2
            channel.suspects += [names[middle:], names[:middle]]
        for name in names:  # some of them may be there, in part or in full
            channel.has[name] = _UNKNOWN

    def _clusters_step(self) -> Response | None:
        return self._named_step(CLUSTER, self._wanted.clusters)

    def _named_step(self, kind: str, names: Iterable[str]) -> Response | None:
        channel, wanted = self._channels[kind], self._wanted.of(kind)
        if not channel.asked or channel.flight is not None:
            return None
        due = [name for name in names if name in wanted and channel.wants(wanted, name)]
        while channel.suspects and due:
            few = set(channel.suspects.pop())
            if found := [name for name in due if name in few]:
                due = found
                break
        if not due and (channel.answered or kind not in (CLUSTER, LISTENER)):
            return None
        return self._send(channel, kind, tuple(wanted[name] for name in sorted(due)))

    def _extensions_step(self) -> Response | None:
        """Filters go out only when all that those of TCP proxies lead to is there, and warm."""
        return self._named_step(EXTENSION, self._channels[EXTENSION].names) if self._is_warm() else None

    def _routes_step(self) -> Response | None:
        """Routes go out only when all that they point at and enable is there, and warm."""
        if not self._is_warm():
            return None
        wanted, filters, channel = self._wanted, self._channels[EXTENSION], self._channels[ROUTES]
        if not filters.settled(wanted.extensions, filters.names & wanted.extensions.keys()):
            return None
        behind = channel.names - {MAIN}
        if behind and any(channel.wants(wanted.routes, name) for name in behind if name in wanted.routes):
            return self._named_step(ROUTES, behind)  # what the first pass names has to be there first
        if not channel.settled(wanted.routes, behind & wanted.routes.keys()):
            return None  # a refused second pass keeps the first pass as it is
        response = self._named_step(ROUTES, channel.names)
        if response is not None:
            self._sent_routes = wanted
        return response

    def _removals_step(self, now: float) -> Response | None:
        self.wake_at = None
        wanted, channel, routes = self._wanted, self._channels[CLUSTER], self._channels[ROUTES]
        if channel.flight is not None or not channel.asked or not routes.names:
            return None
        if not routes.settled(wanted.routes, routes.names & wanted.routes.keys()):
            return None
        filters = self._channels[EXTENSION]
        if not filters.settled(wanted.connections, filters.names & wanted.connections.keys()):
            return None  # the old filter of a TCP proxy may still lead to an old cluster
        spare = [name for name in channel.has if name not in wanted.clusters]
        gone = []
        hold = max(wanted.hold, self._routed.hold if self._routed else 0.0)
        for name in spare:
            until = self._keep_until.setdefault(name, now + self._linger + hold)
            if until <= now:
                gone.append(name)
            else:
                self.wake_at = until if self.wake_at is None else min(self.wake_at, until)
        return self._send(channel, CLUSTER, (), tuple(sorted(gone))) if gone else None

    def _send(
        self, channel: _Channel, kind: str, resources: tuple[Resource, ...], removed: tuple[str, ...] = ()
    ) -> Response:
        channel.flight = Response(kind, str(next(self._nonces)), resources, removed)
        channel.answered = True
        return channel.flight

    def _is_warm(self) -> bool:
        """Whether all that routes and filters point at is there."""
        wanted, clusters, ends = self._wanted, self._channels[CLUSTER], self._channels[ENDPOINTS]
        return clusters.settled(wanted.clusters, wanted.clusters) and ends.settled(
            wanted.endpoints, wanted.clusters
        )

    def _is_followed(self) -> bool:
        wanted = self._wanted
        routes, listeners = self._channels[ROUTES], self._channels[LISTENER]
        return (
            listeners.settled(wanted.listeners, wanted.listeners)
            and routes.settled(wanted.routes, wanted.routes)
            and self._channels[EXTENSION].settled(wanted.extensions, wanted.extensions)
            and self._channels[EXTENSION].judged(wanted.connections)
            and self._is_warm()
        )
