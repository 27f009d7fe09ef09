"""compile: the rules of one destination, as they concern one caller.

Pure. Says nothing about instances: which of them a backend means is for ``resolve`` to find out. A new
action gets a reader in ``model.action_reader``, an entry in ``plan`` and a function here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import gcd
from typing import Any, TypeVar

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.model.rule import (
    TRACE_KEY,
    Abort,
    Action,
    Allow,
    Backend,
    Delay,
    Deny,
    Mirror,
    RateLimit,
    Resilience,
    Route,
    Rule,
    SetHeaders,
    Source,
    Trace,
    in_order,
)
from amalgam8.model.rule_reader import WEIGHT_UNITS, weight_units
from amalgam8.routing.condition import Condition, condition
from amalgam8.routing.plan import (
    DEFAULT_POLICY,
    AccessEntry,
    DestinationPlan,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    Outer,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    Policy,
    RouteEntry,
    TraceEntry,
)

A = TypeVar("A")
P = TypeVar("P")

Mine = list[tuple[Rule, Condition]]
"""The rules that concern the caller, in order, each with what it asks of a request."""


def compile(rules: Iterable[Rule], caller: Caller) -> DestinationPlan | None:  # noqa: A001 - the field's own word
    """Translate ``rules``, all of one destination and in any order, for ``caller``.

    None: no rule of this destination concerns the caller, so for it the destination has no rules.
    """
    ordered = in_order(rules)
    mine = [(rule, found) for rule in ordered if (found := condition(rule.match, caller)) is not None]
    part = DestinationPlan(
        routes=tuple(_route(rule, rule.route, when) for rule, when in mine if rule.route),
        access=tuple(_access(ordered, caller)),
        limits=tuple(_limits(mine)),
        headers=tuple(_headers(a, e) for a, e in _of(mine, SetHeaders, lambda action: action)),
        mirrors=tuple(MirrorEntry(mirrors=a, **e) for a, e in _of(mine, Mirror, _mirror)),
        faults=tuple(_faults(mine)),
        traces=tuple(TraceEntry(traces=a, **e) for a, e in _of(mine, Trace, _trace)),
    )
    return None if part == DestinationPlan() else part


def concerns(rule: Rule, caller: Caller) -> bool:
    """Whether a caller's Plan can differ without this rule."""
    return condition(rule.match, caller) is not None or any(
        isinstance(action, Allow) for action in rule.actions
    )


def limits_of(rule: Rule) -> list[RateLimit]:
    """The limits of a rule, at the places by which budgets are named."""
    return [action for action in rule.actions if isinstance(action, RateLimit)]


def budget(rule: Rule, place: int) -> str:
    """The name of the budget that a rule's limit shares with other sidecars; empty: it shares none.

    Those of several callers, where each has its own, are told apart by whoever shares them out.
    """
    return f"{rule.id}/{place}" if limits_of(rule)[place].scope == "fleet" else ""


def sources(rules: Iterable[Rule]) -> tuple[Source, ...]:
    """The distinct sources that tell callers of these rules apart.

    Callers that each of these fits alike get the same part, so one compilation serves them all.
    """
    found = {source for rule in rules if rule.match for source in rule.match.sources()}
    return tuple(sorted(found, key=lambda source: (source.name, source.tags)))


# -- routes --------------------------------------------------------------------------------------------


def _route(rule: Rule, route: Route, when: Condition) -> RouteEntry:
    return RouteEntry(
        **_entry(rule, when),
        backends=tuple(
            _backend(rule, route, backend, weight)
            for backend, weight in zip(route.backends, _weights(route.backends), strict=True)
            if weight
        ),
        affinity=route.affinity,
        outer=_outer(rule, route),
    )


def _backend(rule: Rule, route: Route, backend: Backend, weight: int) -> PlanBackend:
    return PlanBackend(
        backend.name or rule.destination,
        tuple(sorted(backend.tags)),
        weight,
        _policy(backend),
        _number(route.http_req_timeout or backend.timeout),
        backend.retries if route.http_req_retries is None else route.http_req_retries,
    )


def _policy(backend: Backend) -> Policy:
    limits = backend.resilience
    if limits is not None:
        limits = msgspec.structs.replace(
            limits,
            sleep_window=_number(limits.sleep_window),
            detection_interval=_number(limits.detection_interval),
        )
    policy = Policy(
        "" if backend.lb_type == "round_robin" else backend.lb_type,
        None if limits == Resilience() else limits,
    )
    return DEFAULT_POLICY if policy == DEFAULT_POLICY else policy


def _outer(rule: Rule, route: Route) -> Outer | None:
    if route.uri is None:
        return None
    uri = route.uri
    return Outer((-rule.priority, rule.created, rule.id), uri.path, uri.prefix, uri.prefix_rewrite)


def _weights(backends: Sequence[Backend]) -> list[int]:
    """Whole numbers in the proportion of the shares: the unweighted divide evenly what the others leave."""
    given = [weight_units(backend.weight) for backend in backends]
    sharers = sum(1 for units in given if not units)
    rest = WEIGHT_UNITS - sum(given)
    # Multiplied by the number of sharers, each equal share of the rest is a whole number.
    scaled = [units * sharers if units else rest for units in given] if sharers else given
    divisor = gcd(*scaled) or 1
    return [weight // divisor for weight in scaled]


# -- actions -------------------------------------------------------------------------------------------


def _access(ordered: Iterable[Rule], caller: Caller) -> Iterator[AccessEntry]:
    for rule in ordered:
        when = condition(rule.match, caller)
        allows = any(isinstance(action, Allow) for action in rule.actions)
        if when is None:
            if allows:
                yield AccessEntry(rule=rule.id, expires=rule.expires_at, verdict="guard")
            continue
        if any(isinstance(action, Deny) for action in rule.actions):
            yield AccessEntry(**_entry(rule, when), verdict="deny")
        if allows:
            yield AccessEntry(**_entry(rule, when), verdict="allow")


def _limits(mine: Mine) -> Iterator[LimitEntry]:
    for rule, when in mine:
        if actions := limits_of(rule):
            limits = tuple(_limit(action, budget(rule, i)) for i, action in enumerate(actions))
            yield LimitEntry(limits=limits, **_entry(rule, when))


def _limit(action: RateLimit, budget: str) -> PlanLimit:
    # Within one sidecar there is one caller, so a bucket for each caller is a bucket for all.
    per, burst = (1 if action.per in (0, 1) else float(action.per)), _number(action.burst)
    return PlanLimit(float(action.requests), per, burst, action.key.partition("header:")[2], budget)


def _headers(actions: Sequence[SetHeaders], entry: dict[str, Any]) -> HeadersEntry:
    values = {name.lower(): value for action in actions for name, value in action.set.items()}
    removed = {name.lower() for action in actions for name in action.remove} - values.keys()
    return HeadersEntry(**entry, set=tuple(sorted(values.items())), remove=tuple(sorted(removed)))


def _mirror(action: Mirror) -> PlanMirror:
    return PlanMirror(tuple(sorted(action.tags)), float(action.percent) if 0 < action.percent < 100 else 100)


def _trace(action: Trace) -> PlanTrace:
    return PlanTrace(action.log_key or TRACE_KEY, action.log_value, tuple(sorted(action.tags)))


def _delay(action: Delay) -> PlanDelay:
    return PlanDelay(float(action.duration), _dice(action.probability), tuple(sorted(action.tags)))


def _abort(action: Abort) -> PlanAbort:
    return PlanAbort(action.return_code, _dice(action.probability), tuple(sorted(action.tags)))


def _faults(mine: Mine) -> Iterator[FaultEntry]:
    """Delays and aborts are one kind: the first rule with either of them hides those below it."""
    for rule, when in mine:
        if rule.has_fault:
            delays = tuple(_delay(action) for action in rule.actions if isinstance(action, Delay))
            aborts = tuple(_abort(action) for action in rule.actions if isinstance(action, Abort))
            yield FaultEntry(**_entry(rule, when), delays=delays, aborts=aborts)


def _of(
    mine: Mine, kind: type[A], translate: Callable[[A], P]
) -> Iterator[tuple[tuple[P, ...], dict[str, Any]]]:
    """For each rule with actions of this kind: all of them, translated, and the entry's common members."""
    for rule, when in mine:
        actions: Sequence[Action] = rule.actions
        found = tuple(translate(action) for action in actions if isinstance(action, kind))
        if found:
            yield found, _entry(rule, when)


def _entry(rule: Rule, when: Condition) -> dict[str, Any]:
    return {"rule": rule.id, "match": when, "expires": rule.expires_at}


def _number(value: float) -> float:
    """Zero is always the same object, which JSON leaves out, and other numbers look as if just decoded."""
    return float(value) if value else 0


def _dice(probability: float) -> float:
    """Certainty is always the same object, which the part's JSON leaves out: equal parts, equal bytes."""
    return probability if 0 < probability < 1 else 1
