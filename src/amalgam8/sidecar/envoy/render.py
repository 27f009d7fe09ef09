"""render: a Routing as Envoy's resources. A service that is the same object as before costs nothing.

Pure but for what it remembers. It also remembers targets that left the Routing, for as long as Envoy has
their clusters, and keeps their endpoints up to date as far as their instances are known from others.
"""

from collections.abc import Callable, Container, Iterable, Mapping

import msgspec

from amalgam8.routing.resolve import Peer, Routing, ServiceRouting, Target
from amalgam8.sidecar.envoy.ads import LINGER, State
from amalgam8.sidecar.envoy.clusters import Clusters, endpoints
from amalgam8.sidecar.envoy.faults import Unrenderable
from amalgam8.sidecar.envoy.limits import Bucket, bucket_resources
from amalgam8.sidecar.envoy.messages import CLUSTER, MAIN, SECOND, Resource
from amalgam8.sidecar.envoy.routes import routes, second_routes, waiting_routes
from amalgam8.sidecar.envoy.rows import branch
from amalgam8.sidecar.envoy.speech import HTTP2, both, target_name
from amalgam8.sidecar.envoy.tcp import TcpFilters
from amalgam8.sidecar.envoy.tls import tls_hosts
from amalgam8.sidecar.envoy.ways import Branch
from amalgam8.sidecar.trust import NO_TRUST, Trust

RenderService = Callable[[ServiceRouting], Branch]


class Rendering(msgspec.Struct, frozen=True):
    """Each service's part of the match tree, None where it cannot be; ``problems`` says what is wrong."""

    parts: dict[str, Branch | None]
    problems: dict[str, str]


class _Known(msgspec.Struct, frozen=True):
    target: Target
    peers: tuple[Peer, ...]
    endpoints: tuple[Resource, Resource]
    problem: str


class Renderer:
    """Renders Routings one after the other. ``render_service`` can be replaced to try a faulty one."""

    def __init__(
        self,
        listeners: Mapping[str, Resource],
        render_service: RenderService = branch,
        own_service: str = "",
        linger: float = LINGER,
        believed: Trust = NO_TRUST,
        tcp: TcpFilters | None = None,
    ) -> None:
        self._trust = believed
        self._tcp = tcp or TcpFilters()
        self._listeners = listeners
        self._own_service = own_service
        self._passes = Retiring(linger)
        self._render_service = render_service
        self._clusters = Clusters(believed)
        self._cluster_cache: dict[str, Resource] = {}
        self._stale: set[str] = set()
        self._services: dict[str, ServiceRouting] = {}
        self._rendering = Rendering({}, {})
        self._left_out: dict[str, str] = {}
        self._known: dict[str, _Known] = {}
        self._main: tuple[Mapping[str, Branch], Resource] | None = None
        self._second = second_routes({})
        self._buckets: tuple[tuple[Bucket, ...], dict[str, Resource]] = (), bucket_resources(())

    def render(self, routing: Routing) -> Rendering:
        """Render what changed since the last call."""
        parts: dict[str, Branch | None] = {}
        problems: dict[str, str] = {}
        for name in sorted(routing):
            service, before = routing[name], self._services.get(name)
            if service is not before:
                self._learn(service)
            if before is not None and (service is before or _same_rules(service, before)):
                parts[name] = self._rendering.parts[name]
                if parts[name] is None:
                    problems[name] = self._rendering.problems[name]
            else:
                try:
                    parts[name] = self._render_service(service)
                except (Unrenderable, ValueError, TypeError) as error:  # what protocol buffers refuse too
                    parts[name], problems[name] = None, str(error)
            if name in self._left_out:
                problems.setdefault(name, self._left_out[name])
        self._services = dict(routing)
        self._left_out = {name: text for name, text in self._left_out.items() if name in routing}
        self._rendering = Rendering(parts, problems)
        return self._rendering

    def state(
        self,
        chosen: Mapping[str, Branch],
        kept: Iterable[str],
        held: str | None = None,
        now: float = 0.0,
        refused: Container[str] = (),
    ) -> State:
        """Everything for Envoy, from the chosen parts; ``kept`` are clusters that Envoy still has.

        It does not take those that are ``refused``, or their endpoints, and no chosen part leads to them.

        ``held`` is the version of the second pass's routes that Envoy has; ``now`` in seconds.
        """
        needed: set[str] = set()
        for part in chosen.values():
            needed |= part.targets
        connections = self._tcp.render(self._services, refused)
        needed |= connections.targets
        known = needed | set(kept)
        targets = {target_name(name) for name in known}
        self._known = {
            name: found for name, found in self._known.items() if name in targets or self._is_current(found)
        }
        self._follow_retired({target_name(name) for name in needed})
        self._cluster_cache = {name: self._cached(name) for name in needed}
        hold = max((part.hold for part in chosen.values()), default=0.0)
        passes = {name: body for part in chosen.values() for name, body in part.passes}
        self._second = second_routes(self._passes.wanted(passes, held == self._second.version, now, hold))
        return State(
            clusters=self._cluster_cache,
            endpoints={name: self._endpoints(name) for name in known},
            extensions=self._limits(chosen),
            routes={MAIN: self._routes(chosen), SECOND: self._second},
            listeners=self._listeners,
            connections=connections.filters,
            hold=hold,
        )

    def followed(self) -> None:
        """Envoy has all of the state that was made last."""
        self._tcp.followed()

    def version(self, kind: str, name: str) -> str:
        """The version of a target's cluster or endpoints as they would be sent now."""
        if kind == CLUSTER:
            return self._cached(name).version
        return self._endpoints(name).version

    def waiting(self) -> State:
        """For Envoy to listen before anything is known."""
        return State(
            extensions=self._buckets[1],
            routes={MAIN: waiting_routes(), SECOND: self._second},
            listeners=self._listeners,
            connections=self._tcp.render({}).filters,
        )

    def _cached(self, name: str) -> Resource:
        """The cluster as it was, but for those to which hosts with TLS came or of which they went."""
        found = self._cluster_cache.get(name)
        if found is None or name in self._stale:
            self._stale.discard(name)
            found = self._cluster(name)
        return found

    def _cluster(self, name: str) -> Resource:
        found = self._known.get(target_name(name))
        target = found.target if found else Target(target_name(name))
        hosts = tls_hosts(found.peers) if found and self._trust.usable else ()
        return self._clusters.cluster(target, name.endswith(HTTP2), hosts)

    def _endpoints(self, name: str) -> Resource:
        plain = target_name(name)
        found = self._known.get(plain)
        return (found.endpoints if found else endpoints(Target(plain), ())[0])[name != plain]

    def _routes(self, chosen: Mapping[str, Branch]) -> Resource:
        if self._main is None or self._main[0] != chosen:
            self._main = dict(chosen), routes(chosen, self._own_service)
        return self._main[1]

    def _limits(self, chosen: Mapping[str, Branch]) -> Mapping[str, Resource]:
        found = tuple(limit for part in chosen.values() for limit in part.limits)
        if found != self._buckets[0]:
            self._buckets = found, bucket_resources(found)
        return self._buckets[1]

    def _learn(self, service: ServiceRouting) -> None:
        self._left_out.pop(service.name, None)
        for target, peers in service.peers.items():
            if words := self._set(target, peers):
                self._left_out[service.name] = words

    def _set(self, target: Target, peers: tuple[Peer, ...]) -> str:
        """Remember a target's instances; what is wrong with one of them, if anything is."""
        name = target.name
        known = self._known.get(name)
        if known is None or known.peers != peers:
            if tls_hosts(known.peers if known else ()) != tls_hosts(peers):
                self._stale |= {*both(name)}
            found, problem = endpoints(target, peers, self._trust)
            known = self._known[name] = _Known(target, peers, found, problem)
        return known.problem

    def _is_current(self, known: _Known) -> bool:
        service = self._services.get(known.target.service)
        return service is not None and known.target in service.peers

    def _follow_retired(self, needed: set[str]) -> None:
        """Instances of a target that nothing splits along any more are known from the service's others."""
        for name, found in list(self._known.items()):
            service = self._services.get(found.target.service)
            if name in needed or service is None or found.target in service.peers:
                continue
            others = {peer.id: peer for peers in service.peers.values() for peer in peers}
            members = {peer.id: peer for peer in found.peers if peer.id not in others}
            members |= {key: peer for key, peer in others.items() if _belongs(peer, found.target)}
            if members:  # the last one stays: calls may be on their way, and it may only have new tags
                self._set(found.target, tuple(sorted(members.values())))


def _same_rules(one: ServiceRouting, other: ServiceRouting) -> bool:
    """Whether they differ in instances only."""
    return msgspec.structs.replace(one, peers={}, lapses=None) == msgspec.structs.replace(
        other, peers={}, lapses=None
    )


class Retiring:
    """Routes of the second pass, those included that calls on their way may still ask for.

    A call that came in before a change, or that is tried again after it, goes by the old names.
    """

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._last: dict[str, bytes] = {}
        self._hold = 0.0
        self._retired: dict[str, tuple[bytes, float]] = {}

    def wanted(
        self, passes: dict[str, bytes], last_was_taken: bool, now: float, hold: float
    ) -> dict[str, bytes]:
        """What Envoy should have. Names that it never took are forgotten at once."""
        if last_was_taken:
            until = now + self._linger + self._hold
            self._retired |= {name: (body, until) for name, body in self._last.items() if name not in passes}
        self._last, self._hold = passes, hold
        self._retired = {
            name: (body, until)
            for name, (body, until) in self._retired.items()
            if until > now and name not in passes
        }
        return {**{name: body for name, (body, _) in self._retired.items()}, **passes}


def _belongs(peer: Peer, target: Target) -> bool:
    carried = set(peer.tags)
    return carried.issuperset(target.tags) and not any(carried.issuperset(tags) for tags in target.lacking)
