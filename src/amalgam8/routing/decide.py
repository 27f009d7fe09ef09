"""decide: what may happen to one request under a Routing, with probabilities. The reference interpreter.

Both proxies are held to it. It throws no dice: it lists the outcomes that are possible, so that a real
proxy's answer can be found among them and ``explain`` can show them all.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import re2

from amalgam8.routing.plan import Condition, FaultEntry, PlanAbort, PlanDelay
from amalgam8.routing.resolve import SHARES, Routing, ServiceRouting, Slice


class Request(msgspec.Struct, frozen=True):
    """A call as the proxy sees it: ``path`` with its query, header names in any case."""

    path: str
    headers: Mapping[str, str] = {}
    method: str = "GET"


class Refusal(msgspec.Struct, frozen=True):
    """The mesh itself answers: no such service, or none of its instances can take the call."""

    kind: Literal["unknown", "unavailable"]
    service: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """One version that may be chosen: its share of such calls, the instances, and the faults on the way.

    Each delay happens with its own probability; then the first abort whose dice fall ends the attempt.
    """

    probability: float
    service: str
    tags: tuple[str, ...]
    instances: tuple[str, ...]
    refusal: Refusal | None = None
    delays: tuple[tuple[float, float], ...] = ()
    aborts: tuple[tuple[int, float], ...] = ()
    rules: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """``path`` is what the instance sees. Probabilities of the outcomes add up to one, if there are any."""

    service: str = ""
    path: str = ""
    refusal: Refusal | None = None
    outcomes: tuple[Outcome, ...] = ()


def decide(routing: Routing, request: Request) -> Decision:
    """What may happen to ``request``: a refusal, or the outcomes with their probabilities."""
    name, path = _address(request.path)
    service = routing.get(name)
    if service is None:
        return Decision(refusal=Refusal("unknown", name))
    headers = {key.lower(): value for key, value in request.headers.items()}
    route = next(route for route in service.routes if holds(route.match, headers))
    fault = next((entry for entry in service.faults if holds(entry.match, headers)), None)
    return Decision(
        service=name,
        path=path,
        outcomes=tuple(_outcome(service, piece, route.rule, fault) for piece in route.slices if piece.weight),
    )


def holds(condition: Condition, headers: Mapping[str, str]) -> bool:
    """Whether every pattern is found in its header; an absent header matches no pattern."""
    return all(name in headers and re2.search(pattern, headers[name]) for name, pattern in condition.headers)


def faults_of(fault: FaultEntry, piece: Slice) -> tuple[tuple[PlanDelay, ...], tuple[PlanAbort, ...]]:
    """The fault's delays and aborts that act on a slice: those whose tags its instances carry."""
    carried = set(piece.target.tags)
    return (
        tuple(delay for delay in fault.delays if carried.issuperset(delay.tags)),
        tuple(abort for abort in fault.aborts if carried.issuperset(abort.tags)),
    )


def _address(path: str) -> tuple[str, str]:
    """The first path segment names the service; the rest, with the query, is what it sees."""
    plain, mark, query = path.partition("?")
    name, _, rest = plain.removeprefix("/").partition("/")
    return name, f"/{rest}{mark}{query}"


def _outcome(service: ServiceRouting, piece: Slice, rule: str, fault: FaultEntry | None) -> Outcome:
    peers = service.peers.get(piece.target, ())
    delays, aborts = faults_of(fault, piece) if fault else ((), ())
    return Outcome(
        probability=piece.weight / SHARES,
        service=piece.target.service,
        tags=piece.target.tags,
        instances=tuple(peer.id for peer in peers),
        refusal=None if peers else Refusal("unavailable", piece.target.service),
        delays=tuple((delay.seconds, delay.probability) for delay in delays),
        aborts=tuple((abort.status, abort.probability) for abort in aborts),
        rules=tuple(
            rule_id for rule_id in (rule, fault.rule if fault and (delays or aborts) else "") if rule_id
        ),
    )
