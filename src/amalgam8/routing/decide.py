"""decide: what may happen to one request under a Routing, with probabilities. The reference interpreter.

Both proxies are held to it. It throws no dice: it lists the outcomes that are possible, so that a real
proxy's answer can be found among them and ``explain`` can show them all. Order: access, limits, headers,
version, mirror; then, in each attempt, the delays and the first abort whose dice fall.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

import msgspec
import re2

from amalgam8.model.rule import Affinity
from amalgam8.routing.addressing import addressed
from amalgam8.routing.condition import Condition, Conjunction
from amalgam8.routing.plan import (
    Entry,
    FaultEntry,
    MirrorEntry,
    PlanAbort,
    PlanDelay,
    PlanLimit,
    PlanTrace,
    TraceEntry,
)
from amalgam8.routing.resolve import (
    SHARES,
    Route,
    Routing,
    ServiceRouting,
    Slice,
    Target,
    mirror_target,
)

E = TypeVar("E", bound=Entry)

_MESH_OWN = ("x-a8-", "x-envoy-")
"""Headers that a proxy drops before it looks at anything: they could forge the mesh's own words."""


class Request(msgspec.Struct, frozen=True):
    """A call as the proxy sees it: ``path`` with its query, header names in any case, ``Host`` among them.

    A header that came several times stands here once, as ``joined`` makes it.
    """

    path: str
    headers: Mapping[str, str] = {}
    method: str = "GET"


class Refusal(msgspec.Struct, frozen=True):
    """The mesh itself answers, for the service that was called.

    ``rule`` is the one that refuses, or the one that chose a version without instances; empty: none.
    """

    kind: Literal["unknown", "unavailable", "denied"]
    service: str = ""
    rule: str = ""


class Copy(msgspec.Struct, frozen=True):
    """A copy of the call that is sent with ``probability`` to one of the instances."""

    probability: float
    tags: tuple[str, ...]
    instances: tuple[str, ...]
    rule: str


class Outcome(msgspec.Struct, frozen=True):
    """One version that may be chosen: its share of such calls, the instances, and the faults on the way.

    In each attempt, each delay (seconds, probability) happens on its own; then the first abort (status,
    probability) whose dice fall ends the attempt. ``timeout`` in seconds bounds all attempts together,
    0: none. ``retries`` None: only where the request cannot have been processed.
    """

    probability: float
    service: str
    tags: tuple[str, ...]
    instances: tuple[str, ...]
    backend: int = 0
    refusal: Refusal | None = None
    delays: tuple[tuple[float, float], ...] = ()
    aborts: tuple[tuple[int, float], ...] = ()
    timeout: float = 0
    retries: int | None = None
    traces: tuple[tuple[str, str], ...] = ()
    rules: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """``path`` is what the instance sees. Probabilities of the outcomes add up to one, if there are any.

    ``limits`` may answer 429 before anything else, depending on the calls before this one.
    """

    service: str = ""
    path: str = ""
    refusal: Refusal | None = None
    limits: tuple[PlanLimit, ...] = ()
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    affinity: Affinity | None = None
    mirrors: tuple[Copy, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    rules: tuple[str, ...] = ()
    """Rules that act whatever the outcome: limits, headers, mirrors."""
    route: str = ""
    """The rule that the versions come from; empty: no rule, so all instances."""


def decide(routing: Routing, request: Request, own_service: str = "") -> Decision:
    """What may happen to ``request``, sent by a sidecar whose own ``A8_SERVICE`` names ``own_service``."""
    headers = seen(request.headers)
    host = headers.get("host", "")
    found = addressed(routing, request.path, host, own_service, lambda route: holds(route.match, headers))
    if isinstance(found, str):
        return Decision(refusal=Refusal("unknown", found))
    service, outer, path = found
    route = outer or _route(service, headers)
    if (refusal := access(service, headers)) is not None:
        return Decision(service=service.name, path=path, refusal=refusal)
    limit, change = _first(service.limits, headers), _first(service.headers, headers)
    mirror, fault = _first(service.mirrors, headers), _first(service.faults, headers)
    trace = _first(service.traces, headers)
    pieces = [piece for piece in route.slices if piece.weight]
    return Decision(
        service=service.name,
        path=path,
        limits=limit.limits if limit else (),
        set_headers=change.set if change else (),
        remove_headers=change.remove if change else (),
        affinity=route.affinity,
        mirrors=_copies(service, mirror) if mirror else (),
        outcomes=tuple(_outcome(service, piece, route, fault, trace) for piece in pieces),
        rules=tuple(entry.rule for entry in (limit, change, mirror) if entry is not None),
        route=route.rule,
    )


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers as proxies see them: the values of one name in a row, with commas; cookies as one list of them.

    A client may split its cookies over HTTP/2 as it likes (RFC 9113, 8.2.3), and rules do not see how it did.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        between = "; " if key == "cookie" else ","
        found[key] = f"{found[key]}{between}{value}" if key in found else value
    return found


def seen(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that rules look at: lower-case names, without those that a proxy drops first."""
    return {name: value for name, value in joined(headers.items()).items() if not name.startswith(_MESH_OWN)}


def holds(condition: Condition, headers: Mapping[str, str]) -> bool:
    """Whether a request with these headers (lower-case names) meets the condition."""
    return (
        _found(condition.headers, headers)
        and all(any(_found(choice, headers) for choice in group) for group in condition.any)
        and not any(_found(banned, headers) for banned in condition.none)
    )


def faults_of(fault: FaultEntry, piece: Slice) -> tuple[tuple[PlanDelay, ...], tuple[PlanAbort, ...]]:
    """The fault's delays and aborts that act on a slice: those whose tags its instances carry."""
    carried = set(piece.target.tags)
    return (
        tuple(delay for delay in fault.delays if carried.issuperset(delay.tags)),
        tuple(abort for abort in fault.aborts if carried.issuperset(abort.tags)),
    )


def traces_of(entry: TraceEntry, piece: Slice) -> tuple[PlanTrace, ...]:
    """The traces that act on a slice."""
    return tuple(trace for trace in entry.traces if set(piece.target.tags).issuperset(trace.tags))


def access(service: ServiceRouting, headers: Mapping[str, str]) -> Refusal | None:
    """Who refuses a request with these headers (lower-case names), if anybody does.

    A matching deny does; where anybody is allowed, so does the lack of a matching allow.
    """
    matching = [entry for entry in service.access if entry.verdict != "guard" and holds(entry.match, headers)]
    for entry in matching:
        if entry.verdict == "deny":
            return Refusal("denied", service.name, entry.rule)
    guards = [entry for entry in service.access if entry.verdict != "deny"]
    if guards and not any(entry.verdict == "allow" for entry in matching):
        return Refusal("denied", service.name, guards[0].rule)
    return None


def _route(service: ServiceRouting, headers: Mapping[str, str]) -> Route:
    return next(route for route in service.routes if holds(route.match, headers))


def _first(entries: Sequence[E], headers: Mapping[str, str]) -> E | None:
    return next((entry for entry in entries if holds(entry.match, headers)), None)


def _found(patterns: Conjunction, headers: Mapping[str, str]) -> bool:
    """Whether every pattern is found in its header; an absent header matches no pattern."""
    return all(name in headers and re2.search(pattern, headers[name]) for name, pattern in patterns)


def _outcome(
    service: ServiceRouting, piece: Slice, route: Route, fault: FaultEntry | None, trace: TraceEntry | None
) -> Outcome:
    instances = _ids(service, piece.target)
    delays, aborts = faults_of(fault, piece) if fault else ((), ())
    traces = traces_of(trace, piece) if trace else ()
    acting = (
        route.rule,
        fault.rule if fault and (delays or aborts) else "",
        trace.rule if trace and traces else "",
    )
    return Outcome(
        probability=piece.weight / SHARES,
        service=piece.target.service,
        tags=piece.target.tags,
        instances=instances,
        backend=piece.backend,
        refusal=None if instances else Refusal("unavailable", service.name, route.rule),
        delays=tuple((delay.seconds, delay.probability) for delay in delays),
        aborts=tuple((abort.status, abort.probability) for abort in aborts),
        timeout=piece.timeout,
        retries=piece.retries,
        traces=tuple((each.key, each.value) for each in traces),
        rules=tuple(rule for rule in acting if rule),
    )


def _copies(service: ServiceRouting, entry: MirrorEntry) -> tuple[Copy, ...]:
    return tuple(
        Copy(each.percent / 100, each.tags, _ids(service, mirror_target(service.name, each)), entry.rule)
        for each in entry.mirrors
    )


def _ids(service: ServiceRouting, target: Target) -> tuple[str, ...]:
    return tuple(peer.id for peer in service.peers.get(target, ()))
