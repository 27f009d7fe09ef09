"""A second interpreter, of rules as they were written: no Plan, no Routing, no cleverness.

It answers what ``decide`` answers, worked out from DESIGN's words directly, so that the two can be held
against each other. Written for clearness; it walks all rules for everything.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import quote

import re2

from amalgam8.model.caller import Caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule import (
    Abort,
    Action,
    Allow,
    Backend,
    Block,
    Delay,
    Deny,
    Match,
    Mirror,
    RateLimit,
    Route,
    Rule,
    SetHeaders,
    Trace,
)
from amalgam8.routing.decide import Decision, Request

Instances = Mapping[str, tuple[Instance, ...]]
DICE = 1_000_000


class Interpreter:
    """What happens to requests of ``who`` under ``rules``, at ``now``."""

    def __init__(self, rules: list[Rule], who: Caller, instances: Instances, now: float) -> None:
        live = [rule for rule in rules if rule.expires_at is None or rule.expires_at > now]
        self.rules = sorted(live, key=lambda rule: (-rule.priority, rule.created, rule.id))
        self.who = who
        self.instances = instances

    def answer(self, request: Request) -> Any:
        headers = {
            name.lower(): value
            for name, value in request.headers.items()
            if not name.lower().startswith(("x-a8-", "x-envoy-"))
        }
        mine = [rule for rule in self.rules if self.matches(rule.match, headers)]
        name, route_rule, path = self.addressed(request.path, headers, mine)
        if name is None:
            return ("unknown",)
        rules = [rule for rule in mine if rule.destination == name]
        if any(has(rule, Deny) for rule in rules):
            return ("denied", name)
        allowing = [rule for rule in self.rules if rule.destination == name and has(rule, Allow)]
        if allowing and not any(has(rule, Allow) for rule in rules):
            return ("denied", name)
        if route_rule is None:
            inner = [rule for rule in rules if rule.route and rule.route.uri is None]
            route_rule = inner[0] if inner else None
        limit, change = first(rules, RateLimit), first(rules, SetHeaders)
        return (
            name,
            path,
            sorted(
                (float(a.requests), float(a.per or 1), float(a.burst), a.key.removeprefix("header:"))
                if a.key.startswith("header:")
                else (float(a.requests), float(a.per or 1), float(a.burst), "")
                for a in of(limit, RateLimit)
            ),
            {k.lower(): v for a in of(change, SetHeaders) for k, v in a.set.items()},
            {k.lower() for a in of(change, SetHeaders) for k in a.remove}
            - {k.lower() for a in of(change, SetHeaders) for k in a.set},
            self.mirrors(name, first(rules, Mirror)),
            self.outcomes(name, rules, route_rule),
        )

    def addressed(
        self, path: str, headers: dict[str, str], mine: list[Rule]
    ) -> tuple[str | None, Rule | None, str]:
        host = re.sub(r":\d+$", "", headers.get("host", ""))
        if self.known(host) and host != self.who.service:
            return host, None, path
        plain, mark, query = path.partition("?")
        for rule in mine:
            uri = rule.route.uri if rule.route else None
            if uri is None:
                continue
            if uri.path and plain == uri.path:
                return rule.destination, rule, (uri.prefix_rewrite or plain) + mark + query
            if uri.prefix and plain.startswith(uri.prefix):
                rewritten = plain.replace(uri.prefix, uri.prefix_rewrite or uri.prefix, 1)
                return rule.destination, rule, rewritten + mark + query
        segments = plain.split("/", 2)
        for name in self.instances:
            if self.known(name) and segments[1] == quote(name, safe="!$&'()*+,;=:@"):
                return name, None, "/" + "".join(segments[2:]) + mark + query
        return None, None, path

    def known(self, name: str) -> bool:
        """Here every destination has an instance, so that a rule alone makes none known."""
        return bool(self.instances.get(name))

    def matches(self, match: Match | None, headers: dict[str, str]) -> bool:
        if match is None:
            return True
        return (
            self.fits(Block(match.source, match.headers), headers)
            and all(self.fits(block, headers) for block in match.all)
            and (not match.any or any(self.fits(block, headers) for block in match.any))
            and not any(self.fits(block, headers) for block in match.none)
        )

    def fits(self, block: Block, headers: dict[str, str]) -> bool:
        if block.source is not None:
            if block.source.name and block.source.name != self.who.service:
                return False
            if not set(block.source.tags) <= set(self.who.tags):
                return False
        return all(
            name.lower() in headers and bool(re2.search(pattern, headers[name.lower()]))
            for name, pattern in block.headers.items()
        )

    def mirrors(self, name: str, rule: Rule | None) -> list[Any]:
        return sorted(
            ((float(a.percent) or 100) / 100, sorted(one.id for one in self.carriers(name, a.tags)))
            for a in of(rule, Mirror)
        )

    def carriers(self, name: str, tags: tuple[str, ...]) -> list[Instance]:
        return [
            one
            for one in self.instances.get(name, ())
            if set(tags) <= set(one.tags) and one.endpoint.type != "udp"
        ]

    def outcomes(self, name: str, rules: list[Rule], route_rule: Rule | None) -> dict[Any, int]:
        """The share (in parts of DICE) of each thing that can happen."""
        fault = first(rules, Delay, Abort)
        trace = first(rules, Trace)
        route = route_rule.route if route_rule and route_rule.route else Route((Backend(),))
        given = [Fraction(round(backend.weight * 10_000), 10_000) for backend in route.backends]
        unweighted = sum(1 for share in given if not share)
        found: dict[Any, Fraction] = defaultdict(Fraction)
        for backend, weight in zip(route.backends, given, strict=True):
            share = weight or (1 - sum(given)) / unweighted
            if not share:
                continue
            service = backend.name or name
            chosen: list[Instance | None] = [*self.carriers(service, backend.tags)] or [None]
            for instance in chosen:
                tags = backend.tags if instance is None else instance.tags
                acting = [a for a in of(fault, Delay, Abort) if set(a.tags) <= set(tags)]
                tracing = [a for a in of(trace, Trace) if set(a.tags) <= set(tags)]
                what = (
                    instance.id if instance else ("unavailable", name, route_rule.id if route_rule else ""),
                    tuple((float(a.duration), a.probability or 1) for a in acting if isinstance(a, Delay)),
                    tuple((a.return_code, a.probability or 1) for a in acting if isinstance(a, Abort)),
                    float(route.http_req_timeout or backend.timeout),
                    backend.retries if route.http_req_retries is None else route.http_req_retries,
                    tuple((a.log_key or "gremlin_recipe_id", a.log_value) for a in tracing),
                    tuple(
                        rule.id
                        for rule, acts in ((route_rule, True), (fault, acting), (trace, tracing))
                        if rule and acts
                    ),
                )
                found[what] += Fraction(share) / len(chosen)
        return rounded(found)


def flat(decision: Decision) -> Any:
    """What ``decide`` says, in the form of ``Interpreter.answer``."""
    if decision.refusal is not None:
        kind = decision.refusal.kind
        return (kind,) if kind == "unknown" else (kind, decision.service)
    found: dict[Any, float] = defaultdict(float)
    for outcome in decision.outcomes:
        refusal = outcome.refusal
        for instance in outcome.instances or [
            (refusal.kind, refusal.service, refusal.rule) if refusal else ""
        ]:
            what = (
                instance,
                outcome.delays,
                outcome.aborts,
                outcome.timeout,
                outcome.retries,
                outcome.traces,
                outcome.rules,
            )
            found[what] += outcome.probability / (len(outcome.instances) or 1)
    return (
        decision.service,
        decision.path,
        sorted((limit.requests, limit.per, limit.burst, limit.header) for limit in decision.limits),
        dict(decision.set_headers),
        set(decision.remove_headers),
        sorted((copy.probability, sorted(copy.instances)) for copy in decision.mirrors),
        rounded(found),
    )


def agree(mine: Any, theirs: Any) -> bool:
    """Equal, but for a few millionths of a share."""
    if len(mine) < 7 or len(theirs) < 7:
        return bool(mine == theirs)
    if mine[:6] != theirs[:6]:
        return False
    return all(abs(mine[6].get(key, 0) - theirs[6].get(key, 0)) <= 4 for key in {*mine[6], *theirs[6]})


def rounded(found: Mapping[Any, Any]) -> dict[Any, int]:
    return {key: round(float(share) * DICE) for key, share in found.items()}


def has(rule: Rule, *kinds: type[Any]) -> bool:
    return any(isinstance(action, kinds) for action in rule.actions)


def first(rules: list[Rule], *kinds: type[Any]) -> Rule | None:
    return next((rule for rule in rules if has(rule, *kinds)), None)


def of(rule: Rule | None, *kinds: type[Any]) -> list[Any]:
    actions: tuple[Action, ...] = rule.actions if rule else ()
    return [action for action in actions if isinstance(action, kinds)]
