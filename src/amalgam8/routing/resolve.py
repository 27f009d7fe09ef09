"""resolve: a Plan and the instances, joined into the Routing that a proxy is given.

Each service becomes a ServiceRouting: which *targets* (sets of addresses) take which share of the calls,
in the order in which the entries are tried, and the actions beside them. Faults and traces of one version
are exact, since a backend is split along the tags that they name: then each target carries such tags, or
none of its instances does. Shares are parts of SHARES, so that both proxies, and a hash, cut at the same
places. Pure: the time is an argument. Lapsed entries are gone from the result.
"""

import hashlib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import msgspec

from amalgam8.model.instance import Address, Instance, address_of
from amalgam8.model.rule import Affinity
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import (
    DEFAULT_POLICY,
    AccessEntry,
    DestinationPlan,
    Entry,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    Outer,
    Plan,
    PlanBackend,
    PlanMirror,
    Policy,
    RouteEntry,
    TraceEntry,
)

SHARES = 100_000_000
"""What the weights of one route add up to."""

Instances = Mapping[str, tuple[Instance, ...]]
"""Instances by service, those that may take calls only."""

Names = Mapping[str, tuple[str, ...]]
"""IP addresses by host name, the preferred first; names that nobody could look up are missing."""

Tags = tuple[str, ...]
E = TypeVar("E", bound=Entry)


class Peer(msgspec.Struct, frozen=True, order=True):
    """One instance that takes calls.

    ``places`` are the IP addresses of an address that is a host name, the preferred first.
    """

    id: str
    address: Address
    tags: Tags = ()
    places: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """The instances of ``service`` that carry all ``tags`` and, of each set in ``lacking``, not all.

    Two targets of the same instances and different ``policy`` share nothing.
    """

    service: str
    tags: Tags = ()
    lacking: tuple[Tags, ...] = ()
    policy: Policy = DEFAULT_POLICY

    @property
    def name(self) -> str:
        """A name that no other target has."""
        if not self.tags and not self.lacking and self.policy is DEFAULT_POLICY:
            return self.service
        signs = ["+" + _quote(tag) for tag in self.tags]
        signs += ["-" + "&".join(_quote(tag) for tag in tags) for tags in self.lacking]
        if self.policy != DEFAULT_POLICY:
            signs.append("~" + hashlib.sha256(msgspec.json.encode(self.policy)).hexdigest()[:8])
        return "|".join([self.service, *signs])


class Slice(msgspec.Struct, frozen=True):
    """A share of a route's calls, ``weight`` parts of SHARES, for one target.

    ``backend`` is the position of the version that was chosen: slices of one backend stand together.
    ``timeout`` in seconds for the whole exchange, 0: none; ``retries`` None: only where it is safe.
    """

    target: Target
    weight: int = SHARES
    backend: int = 0
    timeout: float = 0
    retries: int | None = None


class Route(msgspec.Struct, frozen=True):
    """Where calls go that meet ``match``; ``rule`` is empty for the default, which matches always.

    ``expires`` in seconds since the epoch: for a proxy that lets it lapse without being told.
    """

    slices: tuple[Slice, ...]
    match: Condition = ALWAYS
    rule: str = ""
    affinity: Affinity | None = None
    outer: Outer | None = None
    expires: float | None = None


class ServiceRouting(msgspec.Struct, frozen=True):
    """Everything about calls to one service.

    ``routes`` are for calls addressed to the service and end with one that matches always; ``outers``
    are reached by outer paths. Of ``access`` every entry counts, of each other kind the first that matches.
    """

    name: str
    routes: tuple[Route, ...]
    outers: tuple[Route, ...] = ()
    access: tuple[AccessEntry, ...] = ()
    limits: tuple[LimitEntry, ...] = ()
    headers: tuple[HeadersEntry, ...] = ()
    mirrors: tuple[MirrorEntry, ...] = ()
    faults: tuple[FaultEntry, ...] = ()
    traces: tuple[TraceEntry, ...] = ()
    peers: dict[Target, tuple[Peer, ...]] = {}
    lapses: float | None = None
    """When the next of its entries lapses, in seconds since the epoch; this ServiceRouting is stale then."""


Routing = Mapping[str, ServiceRouting]


def resolve(
    plan: Plan, instances: Instances, now: float, names: Names | None = None
) -> dict[str, ServiceRouting]:
    """Join all. Known is each service that has an instance or is a destination of the Plan."""
    known = sorted({*plan, *(name for name, found in instances.items() if found)})
    return {name: resolve_service(name, plan.get(name), instances, now, names) for name in known}


def resolve_service(
    name: str,
    part: DestinationPlan | None,
    instances: Instances,
    now: float,
    names: Names | None = None,
    pins: Iterable[Tags] = (),
) -> ServiceRouting:
    """Join one service's part with the instances of every service that its backends name.

    An instance whose host name is not in ``names`` is as if it were not there; ``names`` None: nobody
    looked anything up, and all are there. ``pins`` are tags whose instances are wanted in any case.
    """
    part = part or DestinationPlan()
    entries, faults, traces = _live(part.routes, now), _live(part.faults, now), _live(part.traces, now)
    mirrors = _live(part.mirrors, now)
    cutter = _Cutter(_cuts(faults, traces), instances, names)
    routes = [cutter.route(entry) for entry in entries]
    inner = [route for route in routes if route.outer is None]
    if not any(route.match == ALWAYS and route.expires is None for route in inner):
        inner.append(Route(cutter.slices((PlanBackend(name),))))
    for entry in mirrors:
        for mirror in entry.mirrors:
            cutter.peers.setdefault(mirror_target(name, mirror), cutter.carriers(name, mirror.tags))
    for tags in pins:
        cutter.peers.setdefault(Target(name, tags), cutter.carriers(name, tags))
    live = ServiceRouting(
        name=name,
        routes=tuple(inner),
        outers=tuple(route for route in routes if route.outer is not None),
        access=_live(part.access, now),
        limits=_live(part.limits, now),
        headers=_live(part.headers, now),
        mirrors=mirrors,
        faults=faults,
        traces=traces,
        peers=cutter.peers,
    )
    ahead = (*entries, *faults, *traces, *mirrors, *live.access, *live.limits, *live.headers)
    lapses = min((entry.expires for entry in ahead if entry.expires is not None), default=None)
    return live if lapses is None else msgspec.structs.replace(live, lapses=lapses)


def services_used(name: str, part: DestinationPlan | None) -> frozenset[str]:
    """The services whose instances resolve_service looks at for this part."""
    used = {backend.service for entry in (part.routes if part else ()) for backend in entry.backends}
    return frozenset({name, *used})


def mirror_target(service: str, mirror: PlanMirror) -> Target:
    """Where the copies go."""
    return Target(service, mirror.tags)


def outer_routes(routing: Routing) -> list[tuple[ServiceRouting, Route]]:
    """All routes that outer paths lead to, in the order in which they are tried."""
    found = [(service, route) for service in routing.values() for route in service.outers]
    return sorted(found, key=lambda pair: pair[1].outer.order if pair[1].outer else (0, "", ""))


def _live(entries: tuple[E, ...], now: float) -> tuple[E, ...]:
    return tuple(entry for entry in entries if entry.expires is None or entry.expires > now)


def _cuts(faults: Iterable[FaultEntry], traces: Iterable[TraceEntry]) -> tuple[Tags, ...]:
    """The distinct tag sets that faults and traces name."""
    found: set[Tags] = set()
    for fault in faults:
        found |= {delay.tags for delay in fault.delays} | {abort.tags for abort in fault.aborts}
    for entry in traces:
        found |= {trace.tags for trace in entry.traces}
    return tuple(sorted(found - {()}))


class _Cutter:
    """Cuts backends along the tags of faults; ``peers`` gains the targets that come up."""

    def __init__(self, cuts: tuple[Tags, ...], instances: Instances, names: Names | None = None) -> None:
        self.peers: dict[Target, tuple[Peer, ...]] = {}
        self._cuts = cuts
        self._instances = instances
        self._names = names

    def route(self, entry: RouteEntry) -> Route:
        slices = self.slices(entry.backends)
        return Route(slices, entry.match, entry.rule, entry.affinity, entry.outer, entry.expires)

    def slices(self, backends: tuple[PlanBackend, ...]) -> tuple[Slice, ...]:
        total = sum(backend.weight for backend in backends)
        shares: list[tuple[int, Target, Fraction]] = []
        for position, backend in enumerate(backends):
            share = Fraction(backend.weight, total)
            parts = self._partition(backend)
            count = sum(len(found) for found in parts.values())
            for target, found in parts.items():
                self.peers[target] = found
                shares.append((position, target, share * Fraction(len(found), count) if count else share))
        weights = _whole([share for *_, share in shares])
        return tuple(
            Slice(target, weight, position, backends[position].timeout, backends[position].retries)
            for (position, target, _), weight in zip(shares, weights, strict=True)
        )

    def carriers(self, service: str, tags: Tags) -> tuple[Peer, ...]:
        """The instances of ``service`` that carry all ``tags``."""
        found: list[Peer] = []
        for instance in self._instances.get(service, ()):
            address = address_of(instance.endpoint)
            if address is None or not set(instance.tags).issuperset(tags):
                continue
            places: tuple[str, ...] = ()
            if self._names is not None and not address.is_ip:
                places = self._names.get(address.host, ())
                if not places:
                    continue
            found.append(Peer(instance.id, address, tuple(sorted(set(instance.tags))), places))
        return tuple(sorted(found))

    def _partition(self, backend: PlanBackend) -> dict[Target, tuple[Peer, ...]]:
        """The backend's instances, grouped by which cuts they carry; without any, one empty target."""
        groups: dict[Target, list[Peer]] = {}
        for peer in self.carriers(backend.service, backend.tags):
            carried = set(peer.tags)
            has = {tag for cut in self._cuts if carried.issuperset(cut) for tag in cut}
            lacks = tuple(cut for cut in self._cuts if not carried.issuperset(cut))
            tags = tuple(sorted({*backend.tags, *has}))
            groups.setdefault(Target(backend.service, tags, lacks, backend.policy), []).append(peer)
        if not groups:
            return {Target(backend.service, backend.tags, (), backend.policy): ()}
        if len(groups) == 1:  # nothing is cut: the plain name keeps its connections while faults come and go
            ((target, peers),) = groups.items()
            return {Target(target.service, target.tags, (), target.policy): tuple(peers)}
        return {target: tuple(groups[target]) for target in sorted(groups, key=_name)}


def _name(target: Target) -> str:
    return target.name


def _whole(shares: list[Fraction]) -> list[int]:
    """Shares of 1 in whole parts of SHARES, cut at rounded running sums, so that an outer cut never moves."""
    edges, running = [0], Fraction(0)
    for share in shares:
        running += share
        edges.append(round(running * SHARES))
    return [after - before for before, after in pairwise(edges)]


def _quote(tag: str) -> str:
    return tag.replace("%", "%25").replace("|", "%7C").replace("&", "%26")
