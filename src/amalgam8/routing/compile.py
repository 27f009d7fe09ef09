"""compile: the rules of one destination, as they concern one caller.

Pure. Says nothing about instances: which of them a backend means is for ``resolve`` to find out.
"""

from collections.abc import Iterable, Sequence
from math import gcd

from amalgam8.model.caller import Caller
from amalgam8.model.rule import Abort, Backend, Delay, Match, Rule, Source, in_order
from amalgam8.model.rule_reader import WEIGHT_UNITS, weight_units
from amalgam8.routing.plan import (
    ALWAYS,
    Condition,
    DestinationPlan,
    FaultEntry,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    RouteEntry,
)


def compile(rules: Iterable[Rule], caller: Caller) -> DestinationPlan | None:  # noqa: A001 - the field's own word
    """Translate ``rules``, all of one destination and in any order, for ``caller``.

    None: no rule of this destination concerns the caller, so for it the destination has no rules.
    """
    mine = [rule for rule in in_order(rules) if concerns(rule, caller)]
    if not mine:
        return None
    return DestinationPlan(
        routes=tuple(_route(rule, rule.route.backends) for rule in mine if rule.route),
        faults=tuple(_faults(rule) for rule in mine if rule.has_fault),
    )


def concerns(rule: Rule, caller: Caller) -> bool:
    """Whether the rule's source fits the caller: the same name, and the rule's tags among the caller's."""
    source = _source(rule)
    return source is None or fits(source, caller)


def fits(source: Source, caller: Caller) -> bool:
    """Whether the caller is one of those that ``source`` means."""
    return source.name in ("", caller.service) and set(source.tags) <= set(caller.tags)


def sources(rules: Iterable[Rule]) -> tuple[Source, ...]:
    """The distinct sources that tell callers of these rules apart.

    Callers that each of these fits alike get the same part, so one compilation serves them all.
    """
    found = {source for rule in rules if (source := _source(rule)) is not None}
    return tuple(sorted(found, key=lambda source: (source.name, source.tags)))


def _source(rule: Rule) -> Source | None:
    return rule.match.source if rule.match else None


def _condition(match: Match | None) -> Condition:
    if match is None or not match.headers:
        return ALWAYS
    return Condition(tuple(sorted((name.lower(), pattern) for name, pattern in match.headers.items())))


def _route(rule: Rule, backends: Sequence[Backend]) -> RouteEntry:
    return RouteEntry(
        rule=rule.id,
        match=_condition(rule.match),
        backends=tuple(
            PlanBackend(backend.name or rule.destination, tuple(sorted(backend.tags)), weight)
            for backend, weight in zip(backends, _weights(backends), strict=True)
            if weight
        ),
        expires=rule.expires_at,
    )


def _weights(backends: Sequence[Backend]) -> list[int]:
    """Whole numbers in the proportion of the shares: the unweighted divide evenly what the others leave."""
    given = [weight_units(backend.weight) for backend in backends]
    sharers = sum(1 for units in given if not units)
    rest = WEIGHT_UNITS - sum(given)
    # Multiplied by the number of sharers, each equal share of the rest is a whole number.
    scaled = [units * sharers if units else rest for units in given] if sharers else given
    divisor = gcd(*scaled) or 1
    return [weight // divisor for weight in scaled]


def _faults(rule: Rule) -> FaultEntry:
    return FaultEntry(
        rule=rule.id,
        match=_condition(rule.match),
        delays=tuple(
            PlanDelay(action.duration, _dice(action.probability), tuple(sorted(action.tags)))
            for action in rule.actions
            if isinstance(action, Delay)
        ),
        aborts=tuple(
            PlanAbort(action.return_code, _dice(action.probability), tuple(sorted(action.tags)))
            for action in rule.actions
            if isinstance(action, Abort)
        ),
        expires=rule.expires_at,
    )


def _dice(probability: float) -> float:
    """Certainty is always the same object, which the part's JSON leaves out: equal parts, equal bytes."""
    return probability if 0 < probability < 1 else 1
