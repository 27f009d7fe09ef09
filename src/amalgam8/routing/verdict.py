"""What became of each rule that a call could have met: whether it matches, and what each kind of it does.

A rule that matches may still do nothing: another of its kind comes first, its tags miss every version, or
the call is refused before. The words follow from the same entries that ``decide`` looks at.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.model.rule import (
    Abort,
    Allow,
    Delay,
    Deny,
    Mirror,
    RateLimit,
    Rule,
    SetHeaders,
    Trace,
    in_order,
)
from amalgam8.routing.addressing import covers
from amalgam8.routing.decide import Decision, holds
from amalgam8.routing.plan import Entry
from amalgam8.routing.reasons import Reason, reasons
from amalgam8.routing.resolve import Route, ServiceRouting

RULES_SHOWN = 500
"""Rules in one explanation: those that act, and the first of the others."""

Kind = Literal["route", "access", "limit", "headers", "mirror", "fault", "trace"]

_KINDS: Mapping[type, Kind] = {
    Allow: "access",
    Deny: "access",
    RateLimit: "limit",
    SetHeaders: "headers",
    Mirror: "mirror",
    Delay: "fault",
    Abort: "fault",
    Trace: "trace",
}


class Effect(msgspec.Struct, frozen=True):
    """What one kind of a rule does to the call; ``by`` is the rule that keeps it from acting, if one does.

    ``hidden``: a rule of this kind comes first. ``unreached``: the call is refused before. ``aside``: it is
    reached in another way, by its ``uri``. ``missed``: no version carries its tags.
    """

    kind: Kind
    state: Literal["acts", "hidden", "unreached", "aside", "missed"]
    text: str
    by: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """One rule: ``reasons`` say why it does not match, ``effects`` what it does."""

    id: str
    destination: str
    priority: int
    matches: bool
    reasons: tuple[Reason, ...]
    effects: tuple[Effect, ...]


class Looked(msgspec.Struct, frozen=True):
    """The call as it was decided. ``plain``: its outer path without query; ``outer``: what that led to.

    ``uris``: the destinations that are reached by outer paths too.
    """

    service: str
    routing: ServiceRouting | None
    decision: Decision
    headers: Mapping[str, str]
    plain: str
    outer: Route | None
    by_host: bool
    uris: frozenset[str]


def kinds(rule: Rule) -> tuple[Kind, ...]:
    """The kinds of a rule, each once: ``route``, or those of its actions."""
    if rule.route is not None:
        return ("route",)
    return tuple(dict.fromkeys(_KINDS[type(action)] for action in rule.actions))


def verdicts(
    rules: Mapping[str, Sequence[Rule]], caller: Caller, looked: Looked, now: float
) -> tuple[tuple[Verdict, ...], int]:
    """The rules of the service that was called, and those whose outer paths were tried, in order.

    And how many more there are that do not act.
    """
    considered = _considered(rules, looked)
    left = len(considered) - RULES_SHOWN
    if left > 0:
        acting = _acting(looked.decision)
        room = RULES_SHOWN - sum(1 for rule in considered if rule.id in acting)
        others = [rule.id for rule in considered if rule.id not in acting][:room]
        shown = acting.union(others)
        considered = [rule for rule in considered if rule.id in shown]
    return tuple(_verdict(rule, caller, looked, now) for rule in considered), max(left, 0)


def _considered(rules: Mapping[str, Sequence[Rule]], looked: Looked) -> list[Rule]:
    own = list(rules.get(looked.service, ()))
    if looked.by_host:
        return own
    tried = in_order(
        rule
        for destination in looked.uris - {looked.service}
        for rule in rules[destination]
        if rule.route is not None
        and (uri := rule.route.uri) is not None
        and covers(uri.path, uri.prefix, looked.plain)
    )
    chosen = next((rule for rule in own if looked.outer is not None and rule.id == looked.outer.rule), None)
    if chosen is not None:  # what ranks below it was not tried
        tried = tried[: in_order([*tried, chosen]).index(chosen)]
    return [*tried, *own]


def _verdict(rule: Rule, caller: Caller, looked: Looked, now: float) -> Verdict:
    why = reasons(rule.match, caller, looked.headers)
    ends = rule.expires_at
    if ends is not None and ends <= now:
        why = (Reason("$.expires", rule.expires, None, f"the rule lapsed at {rule.expires}"), *why)
    effects = tuple(_effects(rule, looked, bool(why)))
    return Verdict(rule.id, rule.destination, rule.priority, not why, why, effects)


def _effects(rule: Rule, looked: Looked, fails: bool) -> Iterator[Effect]:
    refusal = looked.decision.refusal
    if fails:
        if refusal is not None and refusal.kind == "denied" and refusal.rule == rule.id:
            yield Effect("access", "acts", "refuses the call, since it allows others only")
        return
    for kind in kinds(rule):
        if kind == "access":
            yield _access(rule, looked)
        elif refusal is not None and refusal.kind == "denied":
            yield Effect(kind, "unreached", f"the call is refused by {refusal.rule}", refusal.rule)
        elif kind == "route":
            yield _route(rule, looked)
        else:
            yield _action(kind, rule, looked)


def _access(rule: Rule, looked: Looked) -> Effect:
    refusal = looked.decision.refusal
    if any(isinstance(action, Deny) for action in rule.actions):
        if refusal is not None and refusal.rule != rule.id:
            return Effect("access", "hidden", f"{refusal.rule} refuses the call already", refusal.rule)
        return Effect("access", "acts", "refuses the call")
    if refusal is not None and refusal.kind == "denied":
        return Effect("access", "hidden", f"{refusal.rule} refuses the call all the same", refusal.rule)
    return Effect("access", "acts", "lets the call pass")


def _route(rule: Rule, looked: Looked) -> Effect:
    outer = looked.outer
    if rule.route is not None and (uri := rule.route.uri) is not None:
        if outer is not None and outer.rule == rule.id:
            return Effect("route", "acts", "takes the call by its uri and chooses the version")
        where = uri.path or f"{uri.prefix}…"
        return Effect("route", "aside", f"only calls to its uri {where} get here")
    if outer is not None:
        return Effect("route", "hidden", f"the uri of {outer.rule} took the call", outer.rule)
    chosen = looked.decision.route
    if chosen == rule.id:
        return Effect("route", "acts", "chooses the version")
    return Effect("route", "hidden", f"{chosen} matches first", chosen)


def _action(kind: Kind, rule: Rule, looked: Looked) -> Effect:
    first = _first(kind, looked)
    if first is not None and first != rule.id:
        return Effect(kind, "hidden", f"{first} matches first, and of this kind only the first acts", first)
    if kind in ("fault", "trace") and rule.id not in _acting(looked.decision):
        return Effect(kind, "missed", "no version that can be chosen carries its tags")
    return Effect(kind, "acts", _DOES[kind])


def _acting(decision: Decision) -> set[str]:
    """The rules that the decision names."""
    refusals = [decision.refusal, *(outcome.refusal for outcome in decision.outcomes)]
    return {
        *decision.rules,
        decision.route,
        *(each for outcome in decision.outcomes for each in outcome.rules),
        *(refusal.rule for refusal in refusals if refusal is not None),
    }


def _first(kind: Kind, looked: Looked) -> str | None:
    service = looked.routing
    if service is None:
        return None
    entries: Mapping[str, Sequence[Entry]] = {
        "limit": service.limits,
        "headers": service.headers,
        "mirror": service.mirrors,
        "fault": service.faults,
        "trace": service.traces,
    }
    return next((entry.rule for entry in entries[kind] if holds(entry.match, looked.headers)), None)


_DOES: Mapping[str, str] = {
    "limit": "counts the call, and refuses it above its rate",
    "headers": "changes the headers of the call",
    "mirror": "copies the call",
    "fault": "delays or aborts the call",
    "trace": "writes into the access record",
}
