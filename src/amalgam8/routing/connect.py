"""What rules mean for a TCP connection to a service: the version it goes to, or that it is refused.

A connection is taken as a call without headers, path or method. So sources, weights, versions, ``allow`` and
``deny`` hold, a condition on a header never does, and what acts on requests alone (limits, header changes,
mirrors, faults, traces, timeouts, retries, affinity) does not apply. ``unfit`` names each rule of which
something is left out, so that nobody has to guess. Pure, for both proxies.
"""

from collections.abc import Iterator

import msgspec

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.decide import Refusal, access, holds
from amalgam8.routing.plan import Entry
from amalgam8.routing.resolve import Route, ServiceRouting, Slice, Tags, Target

HEADERS = "it asks for headers, and a connection has none"
URI = "it asks for a path, and a connection has none"
PINNED = "the tags of the tcp proxy choose the version"
EXCHANGE = "a timeout, retries and affinity are for requests"

_REQUESTS = {
    "limits": "a rate limit is for requests",
    "headers": "changes of headers are for requests",
    "mirrors": "a mirror is for requests",
    "faults": "a delay or an abort is for requests",
    "traces": "a trace is for requests",
}


class Unfit(msgspec.Struct, frozen=True, order=True):
    """Something that a rule says has no meaning for a connection, and why."""

    rule: str
    why: str


class Connection(msgspec.Struct, frozen=True):
    """Where connections go, each slice with its share; ``rule`` chose. ``refusal``: none goes anywhere."""

    slices: tuple[Slice, ...] = ()
    rule: str = ""
    refusal: Refusal | None = None
    unfit: tuple[Unfit, ...] = ()


def connect(service: ServiceRouting, tags: Tags = ()) -> Connection:
    """What becomes of connections to a service, or to its instances with all ``tags`` if there are any."""
    refusal = access(service, {})
    unfit = tuple(sorted({*_unfit(service, tags)}))
    if refusal is not None:
        return Connection(refusal=refusal, rule=refusal.rule, unfit=unfit)
    if tags:
        return Connection((Slice(Target(service.name, tags)),), unfit=unfit)
    route = next(route for route in service.routes if holds(route.match, {}))
    slices = tuple(piece for piece in route.slices if piece.weight)
    return Connection(slices, route.rule, unfit=unfit)


def _unfit(service: ServiceRouting, tags: Tags) -> Iterator[Unfit]:
    yield from (Unfit(route.rule, URI) for route in service.outers)
    for route in service.routes:
        if route.rule:
            yield from (Unfit(route.rule, why) for why in _of_route(route, tags))
    yield from (Unfit(entry.rule, HEADERS) for entry in service.access if entry.match != ALWAYS)
    for kind, why in _REQUESTS.items():
        entries: tuple[Entry, ...] = getattr(service, kind)
        yield from (Unfit(entry.rule, why) for entry in entries)


def _of_route(route: Route, tags: Tags) -> Iterator[str]:
    if tags:
        yield PINNED
        return
    if route.match != ALWAYS:
        yield HEADERS
    if route.affinity is not None or any(piece.timeout or piece.retries for piece in route.slices):
        yield EXCHANGE
