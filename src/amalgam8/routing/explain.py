"""explain: what may happen to one call, and of each rule that was looked at, why it acts or does not.

``decide`` says what happens, on the very parts of a Plan that the caller's sidecar has; this adds which
rules there were and what became of each. Only the services that a call can concern are resolved: the one
of its path, the one of its ``Host``, and those with outer paths. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal
from urllib.parse import unquote

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.rule import Affinity, Rule
from amalgam8.routing.addressing import address, addressed, folded, host_name
from amalgam8.routing.decide import Copy, Outcome, Refusal, Request, decide, holds, seen
from amalgam8.routing.plan import DestinationPlan, PlanLimit
from amalgam8.routing.resolve import Instances, ServiceRouting, resolve_service, services_used
from amalgam8.routing.verdict import Looked, Verdict, verdicts

STATUS = {"unknown": 404, "denied": 403, "unavailable": 503}
"""The status of each refusal by the mesh."""

BY_TAG_SETS = "no registry was asked: each version is told by its tags, as if one instance carried just them"


class Call(msgspec.Struct, frozen=True):
    """A call as an app makes it: ``path`` inside ``destination``, or the whole path where that is empty."""

    destination: str = ""
    path: str = "/"
    method: str = "GET"
    headers: Mapping[str, str] = {}

    def request(self) -> Request:
        """The call as the caller's proxy sees it."""
        front = f"/{address(self.destination)}" if self.destination else ""
        return Request(front + self.path, self.headers, self.method)


class World(msgspec.Struct, frozen=True):
    """What the mesh knows: rules by destination, in order; a caller's part of each; and who takes calls.

    ``instances`` None: not known.
    """

    rules: Mapping[str, Sequence[Rule]]
    part: Callable[[str], DestinationPlan | None]
    instances: Instances | None


class Refused(msgspec.Struct, frozen=True):
    """The mesh itself answers ``status``."""

    kind: str
    status: int
    service: str
    rule: str = ""


class Pause(msgspec.Struct, frozen=True):
    seconds: float
    probability: float


class Break(msgspec.Struct, frozen=True):
    """An answer in place of the destination's; ``status`` -1: no complete one."""

    status: int
    probability: float


class Traced(msgspec.Struct, frozen=True):
    """A member of the access record."""

    key: str
    value: str


class Version(msgspec.Struct, frozen=True):
    """Instances of ``service`` that carry ``tags``, and their share of such calls; as ``decide.Outcome``.

    ``instances`` None: not known. ``backend`` is the position of the version in its rule.
    """

    probability: float
    service: str
    tags: tuple[str, ...]
    instances: tuple[str, ...] | None
    backend: int
    refusal: Refused | None
    delays: tuple[Pause, ...]
    aborts: tuple[Break, ...]
    timeout: float
    retries: int | None
    traces: tuple[Traced, ...]
    rules: tuple[str, ...]


class Mirrored(msgspec.Struct, frozen=True):
    """A copy that is sent with ``probability``; ``instances`` None: not known."""

    probability: float
    tags: tuple[str, ...]
    instances: tuple[str, ...] | None
    rule: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What may happen to a call. ``path`` is what the instance sees; ``rules`` in the order they are tried.

    ``addressed``: what the service was found by. ``acting`` are rules that act whatever the version.
    """

    service: str
    path: str
    addressed: Literal["path", "host", "uri"]
    refusal: Refused | None
    limits: tuple[PlanLimit, ...]
    set_headers: dict[str, str]
    remove_headers: tuple[str, ...]
    affinity: Affinity | None
    mirrors: tuple[Mirrored, ...]
    versions: tuple[Version, ...]
    acting: tuple[str, ...]
    rules: tuple[Verdict, ...]
    notes: tuple[str, ...]


def explain(
    world: World, caller: Caller, call: Call, now: float, own_service: str | None = None
) -> Explanation:
    """What may happen to ``call`` of ``caller`` at ``now`` (seconds since the epoch), and why.

    ``own_service`` is what the sidecar's ``A8_SERVICE`` names; None: the caller's service.
    """
    own = caller.service if own_service is None else own_service
    request = call.request()
    headers = seen(request.headers)
    uris = frozenset(
        name for name, rules in world.rules.items() if any(rule.route and rule.route.uri for rule in rules)
    )
    routing = _routing(world, request.path, headers.get("host", ""), now, uris)
    decision = decide(routing, request, own)
    host = headers.get("host", "")
    found = addressed(routing, request.path, host, own, lambda route: holds(route.match, headers))
    known = world.instances is not None
    name, outer = (unquote(found), None) if isinstance(found, str) else (found[0].name, found[1])
    meant = folded(host_name(host)) == folded(name) != folded(own)
    by_host = meant and outer is None and not isinstance(found, str)
    looked = Looked(
        name, routing.get(name), decision, headers, request.path.partition("?")[0], outer, by_host, uris
    )
    shown, left = verdicts(world.rules, caller, looked, now)
    notes = [] if known else [BY_TAG_SETS]
    notes += [f"{left} more rules, which do not act, were left out"] if left else []
    return Explanation(
        service=name,
        path=decision.path,
        addressed="host" if by_host else "uri" if outer else "path",
        refusal=_refused(decision.refusal),
        limits=decision.limits,
        set_headers=dict(decision.set_headers),
        remove_headers=decision.remove_headers,
        affinity=decision.affinity,
        mirrors=tuple(_mirrored(copy, known) for copy in decision.mirrors),
        versions=tuple(_version(outcome, known) for outcome in decision.outcomes),
        acting=decision.rules,
        rules=shown,
        notes=tuple(notes),
    )


def _routing(
    world: World, path: str, host: str, now: float, uris: frozenset[str]
) -> dict[str, ServiceRouting]:
    """The services that the request can concern, resolved, in the order of their names."""
    named = unquote(path.partition("?")[0].removeprefix("/").partition("/")[0])
    parts = {name: world.part(name) for name in {named, *_named_by(world, host), *uris}}
    used = {service for name, part in parts.items() for service in services_used(name, part)}
    known = world.instances
    instances = _one_each(parts, named) if known is None else {name: known.get(name, ()) for name in used}
    return {
        name: resolve_service(name, part, instances, now)
        for name, part in sorted(parts.items())
        if part is not None or instances.get(name)
    }


def _named_by(world: World, host: str) -> set[str]:
    """The services that a ``Host`` may mean."""
    name = folded(host_name(host))
    return {each for each in {*world.rules, *(world.instances or ())} if folded(each) == name}


def _one_each(parts: Mapping[str, DestinationPlan | None], named: str) -> Instances:
    """An instance for each set of tags that a part names, and one for the service that is called."""
    sets: dict[str, set[tuple[str, ...]]] = {named: set()} if named else {}
    for name, part in parts.items():
        if part is None:
            continue
        for backend in (backend for entry in part.routes for backend in entry.backends):
            sets.setdefault(backend.service, set()).add(backend.tags)
        mine = sets.setdefault(name, set())
        mine |= {mirror.tags for entry in part.mirrors for mirror in entry.mirrors}
        mine |= {delay.tags for entry in part.faults for delay in entry.delays}
        mine |= {abort.tags for entry in part.faults for abort in entry.aborts}
        mine |= {trace.tags for entry in part.traces for trace in entry.traces}
    for found in sets.values():
        found.discard(())
    return {
        name: tuple(
            Instance(f"{name}/{i}", name, Endpoint("http", "127.0.0.1:1"), status="UP", tags=tags)
            for i, tags in enumerate(sorted(found) or [()])
        )
        for name, found in sets.items()
    }


def _refused(refusal: Refusal | None) -> Refused | None:
    if refusal is None:
        return None
    return Refused(refusal.kind, STATUS[refusal.kind], refusal.service, refusal.rule)


def _version(outcome: Outcome, known: bool) -> Version:
    return Version(
        probability=outcome.probability,
        service=outcome.service,
        tags=outcome.tags,
        instances=outcome.instances if known else None,
        backend=outcome.backend,
        refusal=_refused(outcome.refusal),
        delays=tuple(Pause(*delay) for delay in outcome.delays),
        aborts=tuple(Break(*abort) for abort in outcome.aborts),
        timeout=outcome.timeout,
        retries=outcome.retries,
        traces=tuple(Traced(*trace) for trace in outcome.traces),
        rules=outcome.rules,
    )


def _mirrored(copy: Copy, known: bool) -> Mirrored:
    return Mirrored(copy.probability, copy.tags, copy.instances if known else None, copy.rule)
