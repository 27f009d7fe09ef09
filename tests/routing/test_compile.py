"""compile: goldens that show what a rule becomes, and what holds for all rules.

A golden is ``<case>.in.yaml`` (rules and a caller) and ``<case>.plan.json``; ``--rewrite-goldens`` writes
the latter anew.
"""

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller, parse_caller
from amalgam8.model.rule import (
    Abort,
    Action,
    Allow,
    Backend,
    Delay,
    Deny,
    Match,
    Mirror,
    RateLimit,
    Resilience,
    Route,
    Rule,
    SetHeaders,
    Source,
    Trace,
    Uri,
    rfc3339,
)
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile, concerns, sources  # noqa: A004
from amalgam8.routing.condition import fits
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
    PlanAbort,
    PlanBackend,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    Policy,
    TraceEntry,
    encode_part,
)
from tests.routing import language

GOLDENS = Path(__file__).with_name("goldens")
CASES = sorted(path.name.removesuffix(".in.yaml") for path in GOLDENS.glob("*.in.yaml"))


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, rewrite_goldens: bool) -> None:
    document = yaml.safe_load((GOLDENS / f"{case}.in.yaml").read_text())
    who = parse_caller(document.pop("caller"))
    by_destination: dict[str, list[Rule]] = defaultdict(list)
    for age, rule in enumerate(read_list(document)):
        by_destination[rule.destination].append(msgspec.structs.replace(rule, created=rfc3339(age)))
    parts = {
        name: part
        for name, rules in sorted(by_destination.items())
        if (part := compile(rules, who)) is not None
    }
    found = msgspec.json.format(msgspec.json.encode(parts), indent=2).decode() + "\n"
    golden = GOLDENS / f"{case}.plan.json"
    if rewrite_goldens:
        golden.write_text(found)
    assert found == golden.read_text()


rules = language.rules(st.just("a"))
callers = language.callers


@given(rules, callers, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(given_rules: list[Rule], who: Caller, random: Random) -> None:
    shuffled = list(given_rules)
    random.shuffle(shuffled)
    assert compile(shuffled, who) == compile(given_rules, who)


@given(rules, callers)
def test_equal_input_makes_equal_bytes(given_rules: list[Rule], who: Caller) -> None:
    """Also when it went through JSON, as it does in a store, and again as a part on the wire."""
    part = compile(given_rules, who)
    stored = msgspec.json.decode(msgspec.json.encode(given_rules), type=list[Rule])
    again = compile(stored, Caller(who.service, who.tags))
    assert (part is None) == (again is None)
    if part is not None and again is not None:
        encoded = encode_part(part)
        assert encode_part(again) == encoded
        received = msgspec.json.decode(encoded, type=DestinationPlan)
        assert received == part
        assert encode_part(received) == encoded


def entries(part: DestinationPlan | None) -> Iterator[Entry]:
    if part is not None:
        for kind in (
            *(part.routes, part.access, part.limits, part.headers),
            *(part.mirrors, part.faults, part.traces),
        ):
            yield from kind


@given(rules, callers)
def test_no_entry_is_written_with_what_is_a_default(given_rules: list[Rule], who: Caller) -> None:
    part = compile(given_rules, who)
    text = encode_part(part).decode() if part else ""
    for default in (
        *('"match":{}', '"policy":{}', '"timeout":0', '"probability":1', '"burst":0', '"per":1.0'),
        *('"percent":100', '"expires":null', '"retries":null', '"affinity":null', '"outer":null'),
        *(':""', ":[]", "{}"),
    ):
        assert default not in text.replace('"value":""', "")


@given(rules, callers)
def test_weights_are_exact(given_rules: list[Rule], who: Caller) -> None:
    part = compile(given_rules, who)
    by_id = {rule.id: rule for rule in given_rules}
    for entry in part.routes if part else ():
        route = by_id[entry.rule].route
        assert route is not None
        total = sum(backend.weight for backend in entry.backends)
        shares: dict[tuple[str, tuple[str, ...]], Fraction] = defaultdict(Fraction)
        for compiled in entry.backends:
            shares[(compiled.service, compiled.tags)] += Fraction(compiled.weight, total)
        wanted: dict[tuple[str, tuple[str, ...]], Fraction] = defaultdict(Fraction)
        rest = 1 - sum(
            (Fraction(round(backend.weight * 10_000), 10_000) for backend in route.backends), Fraction()
        )
        unweighted = sum(1 for backend in route.backends if not backend.weight)
        for backend in route.backends:
            share = Fraction(round(backend.weight * 10_000), 10_000) if backend.weight else rest / unweighted
            wanted[(backend.name or "a", tuple(sorted(backend.tags)))] += share
        assert shares == {key: share for key, share in wanted.items() if share}
        assert all(backend.weight >= 1 for backend in entry.backends)


@given(rules, callers)
def test_only_rules_that_concern_the_caller_are_there(given_rules: list[Rule], who: Caller) -> None:
    there = {entry.rule for entry in entries(compile(given_rules, who))}
    assert there == {rule.id for rule in given_rules if concerns(rule, who)}


@given(rules, callers, callers)
def test_callers_that_no_source_tells_apart_have_equal_parts(
    given_rules: list[Rule], one: Caller, other: Caller
) -> None:
    found = sources(given_rules)
    if [fits(source, one) for source in found] == [fits(source, other) for source in found]:
        assert compile(given_rules, one) == compile(given_rules, other)


def routed(*backends: Backend, **members: Any) -> PlanBackend:
    part = compile([Rule("r", destination="d", route=Route(backends, **members))], caller("web"))
    assert part is not None
    return part.routes[0].backends[0]


V1 = ("v1",)


@pytest.mark.parametrize(
    ("backend", "members", "timeout", "retries"),
    [
        (Backend("", V1), {}, 0, None),
        (Backend("", V1, timeout=2, retries=3), {}, 2, 3),
        (Backend("", V1, timeout=2, retries=3), {"http_req_timeout": 1, "http_req_retries": 0}, 1, 0),
        (Backend("", V1), {"http_req_timeout": 1.5, "http_req_retries": 2}, 1.5, 2),
        (Backend("", V1, retries=0), {}, 0, 0),
    ],
)
def test_the_routes_timeout_and_retries_beat_the_older_ones(
    backend: Backend, members: dict[str, Any], timeout: float, retries: int | None
) -> None:
    found = routed(backend, **members)
    assert (found.timeout, found.retries) == (timeout, retries)


def test_two_backends_keep_their_own_policies() -> None:
    strict = Resilience(max_requests=1)
    rule = Rule(
        "r",
        destination="d",
        route=Route(
            (
                Backend("", V1, 0.5, "random", strict),
                Backend("", V1),
                Backend("", V1, resilience=Resilience()),
            )
        ),
    )
    part = compile([rule], caller("web"))
    assert part is not None
    assert [backend.policy for backend in part.routes[0].backends] == [
        Policy("random", strict),
        DEFAULT_POLICY,
        DEFAULT_POLICY,
    ]


def access(*rules_and_sources: tuple[str, Source | None, Action]) -> list[tuple[str, str]]:
    made = [
        Rule(name, destination="d", match=Match(source) if source else None, actions=(action,))
        for name, source, action in rules_and_sources
    ]
    part = compile(made, caller("web", ["v1"]))
    return [(entry.rule, entry.verdict) for entry in part.access] if part else []


def test_a_foreign_allow_leaves_its_guard_and_a_foreign_deny_nothing() -> None:
    mine, foreign = Source("web"), Source("web", ("v2",))
    assert access(("a", foreign, Allow())) == [("a", "guard")]
    assert access(("a", foreign, Deny())) == []
    assert access(("a", mine, Allow()), ("b", foreign, Allow()), ("c", None, Deny())) == [
        ("a", "allow"),
        ("b", "guard"),
        ("c", "deny"),
    ]


def test_a_guard_lapses_with_its_rule() -> None:
    rule = Rule("a", destination="d", match=Match(Source("x")), actions=(Allow(),), expires=rfc3339(9))
    part = compile([rule], caller("web"))
    assert part == DestinationPlan(access=(AccessEntry(rule="a", verdict="guard", expires=9.0),))


def test_a_budget_of_the_fleet_has_the_name_of_its_place() -> None:
    limits = (RateLimit(5), RateLimit(1, scope="fleet"), RateLimit(2, key="caller", scope="fleet"))
    rule = Rule("l", destination="d", actions=(Deny(), *limits))
    part = compile([rule], caller("web"))
    assert part is not None
    assert [limit.budget for limit in part.limits[0].limits] == ["", "l/1", "l/2"]
    assert compile([rule], caller("api")) == part  # callers that no source tells apart share one part


def test_one_rule_can_act_in_every_kind() -> None:
    rule = Rule(
        "all",
        destination="d",
        actions=(
            *(Deny(), Allow(), RateLimit(1, key="caller"), SetHeaders({"X-A": "b"}, ("x-a", "C"))),
            *(Mirror(("b", "a")), Delay(1), Abort(-1, 0.5, ("v2", "v1")), Trace()),
        ),
    )
    part = compile([rule], caller("web"))
    assert part == DestinationPlan(
        access=(AccessEntry(rule="all", verdict="deny"), AccessEntry(rule="all", verdict="allow")),
        limits=(LimitEntry(rule="all", limits=(PlanLimit(1),)),),
        headers=(HeadersEntry(rule="all", set=(("x-a", "b"),), remove=("c",)),),
        mirrors=(MirrorEntry(rule="all", mirrors=(PlanMirror(("a", "b")),)),),
        faults=(FaultEntry(rule="all", delays=(PlanDelay(1),), aborts=(PlanAbort(-1, 0.5, ("v1", "v2")),)),),
        traces=(TraceEntry(rule="all", traces=(PlanTrace("gremlin_recipe_id"),)),),
    )


def test_a_uri_is_ranked_among_those_of_all_destinations() -> None:
    rule = Rule("r", 3, "d", route=Route((Backend("", V1),), Uri("", "/p", "/q")), created="2030")
    part = compile([rule], caller("web"))
    assert part is not None
    assert part.routes[0].outer == Outer((-3, "2030", "r"), "", "/p", "/q")


def test_no_rules_is_no_part() -> None:
    assert compile([], caller("web")) is None
