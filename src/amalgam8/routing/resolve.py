"""resolve: a Plan and the instances, joined into the Routing that a proxy is given.

Each service becomes a ServiceRouting: which *targets* (sets of addresses) take which share of the calls,
in the order in which the entries are tried, and the faults beside them. Faults of one version are exact,
since a backend is split along the tags that faults name: then each target carries such tags, or none of
its instances does. Shares are parts of SHARES, so that both proxies, and a hash, cut at the same places.

Pure: the time is an argument. Lapsed entries are gone from the result.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise

import msgspec

from amalgam8.model.instance import Address, Instance, address_of
from amalgam8.routing.plan import (
    ALWAYS,
    Condition,
    DestinationPlan,
    FaultEntry,
    Plan,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    RouteEntry,
)

SHARES = 100_000_000
"""What the weights of one route add up to."""

Instances = Mapping[str, tuple[Instance, ...]]
"""Instances by service, those that may take calls only."""


class Peer(msgspec.Struct, frozen=True, order=True):
    """One instance that takes calls."""

    id: str
    address: Address
    tags: tuple[str, ...] = ()


class Target(msgspec.Struct, frozen=True):
    """The instances of ``service`` that carry all ``tags`` and, of each set in ``lacking``, not all."""

    service: str
    tags: tuple[str, ...] = ()
    lacking: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """A name that no other target has."""
        signs = ["+" + _quote(tag) for tag in self.tags]
        signs += ["-" + "&".join(_quote(tag) for tag in tags) for tags in self.lacking]
        return "|".join([self.service, *signs])


class Slice(msgspec.Struct, frozen=True):
    """A share of a route's calls, ``weight`` parts of SHARES, for one target.

    ``backend`` is the position of the version that was chosen: slices of one backend stand together.
    """

    target: Target
    weight: int = SHARES
    backend: int = 0


class Route(msgspec.Struct, frozen=True):
    """Where calls go that meet ``match``; ``rule`` is empty for the default, which matches always."""

    slices: tuple[Slice, ...]
    match: Condition = ALWAYS
    rule: str = ""


class ServiceRouting(msgspec.Struct, frozen=True):
    """Everything about calls to one service. ``faults``: the first whose match holds applies."""

    name: str
    routes: tuple[Route, ...]
    faults: tuple[FaultEntry, ...] = ()
    peers: dict[Target, tuple[Peer, ...]] = {}
    lapses: float | None = None
    """When the next of its entries lapses, in seconds since the epoch; this ServiceRouting is stale then."""


Routing = Mapping[str, ServiceRouting]


def resolve(plan: Plan, instances: Instances, now: float) -> dict[str, ServiceRouting]:
    """Join all. Known is each service that has an instance or is a destination of the Plan."""
    known = sorted({*plan, *(name for name, found in instances.items() if found)})
    return {name: resolve_service(name, plan.get(name), instances, now) for name in known}


def resolve_service(
    name: str, part: DestinationPlan | None, instances: Instances, now: float
) -> ServiceRouting:
    """Join one service's part with the instances of every service that its backends name."""
    part = part or DestinationPlan()
    entries = [entry for entry in part.routes if not _lapsed(entry.expires, now)]
    faults = tuple(entry for entry in part.faults if not _lapsed(entry.expires, now))
    cuts = _cuts(faults)
    peers: dict[Target, tuple[Peer, ...]] = {}
    routes = [
        Route(_slices(entry.backends, cuts, instances, peers), entry.match, entry.rule) for entry in entries
    ]
    if not any(route.match == ALWAYS for route in routes):
        routes.append(Route(_slices((PlanBackend(name),), cuts, instances, peers)))
    return ServiceRouting(name, tuple(routes), faults, peers, _next_lapse((*entries, *faults)))


def services_used(name: str, part: DestinationPlan | None) -> frozenset[str]:
    """The services whose instances resolve_service looks at for this part."""
    used = {backend.service for entry in (part.routes if part else ()) for backend in entry.backends}
    return frozenset({name, *used})


def _lapsed(expires: float | None, now: float) -> bool:
    return expires is not None and expires <= now


def _next_lapse(entries: Iterable[RouteEntry | FaultEntry]) -> float | None:
    return min((entry.expires for entry in entries if entry.expires is not None), default=None)


def _cuts(faults: Iterable[FaultEntry]) -> tuple[tuple[str, ...], ...]:
    """The distinct tag sets that faults name."""
    actions: list[PlanDelay | PlanAbort] = []
    for entry in faults:
        actions += [*entry.delays, *entry.aborts]
    found = {action.tags for action in actions if action.tags}
    return tuple(sorted(found))


def _slices(
    backends: tuple[PlanBackend, ...],
    cuts: tuple[tuple[str, ...], ...],
    instances: Instances,
    peers: dict[Target, tuple[Peer, ...]],
) -> tuple[Slice, ...]:
    """Cut each backend along the tags of faults; ``peers`` gains the targets that come up."""
    total = sum(backend.weight for backend in backends)
    shares: list[tuple[int, Target, Fraction]] = []
    for position, backend in enumerate(backends):
        share = Fraction(backend.weight, total)
        parts = _partition(backend, cuts, instances.get(backend.service, ()))
        count = sum(len(found) for found in parts.values())
        for target, found in parts.items():
            peers[target] = found
            shares.append((position, target, share * Fraction(len(found), count) if count else share))
    return tuple(
        Slice(target, weight, position)
        for (position, target, _), weight in zip(shares, _whole([share for *_, share in shares]), strict=True)
    )


def _partition(
    backend: PlanBackend, cuts: tuple[tuple[str, ...], ...], found: tuple[Instance, ...]
) -> dict[Target, tuple[Peer, ...]]:
    """The backend's instances, grouped by which of the cuts they carry; without any, one empty target."""
    groups: dict[Target, list[Peer]] = {}
    for instance in found:
        carried = set(instance.tags)
        address = address_of(instance.endpoint)
        if address is None or not carried.issuperset(backend.tags):
            continue
        has = {tag for cut in cuts if carried.issuperset(cut) for tag in cut}
        # A cut that the backend's own tags decide says nothing new, and would only lengthen the name.
        lacks = tuple(cut for cut in cuts if not carried.issuperset(cut))
        target = Target(backend.service, tuple(sorted({*backend.tags, *has})), lacks)
        groups.setdefault(target, []).append(Peer(instance.id, address, tuple(sorted(carried))))
    if not groups:
        return {Target(backend.service, backend.tags): ()}
    if len(groups) == 1:  # nothing is cut: the plain name keeps its connections while faults come and go
        ((target, peers),) = groups.items()
        return {Target(target.service, target.tags): tuple(sorted(peers))}
    return {target: tuple(sorted(groups[target])) for target in sorted(groups, key=_name)}


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
