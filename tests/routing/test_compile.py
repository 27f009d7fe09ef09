"""compile: goldens that show what a rule becomes, and what holds for all rules.

A golden is ``<case>.in.yaml`` (rules and a caller) and ``<case>.plan.json``; ``--rewrite-goldens`` writes
the latter anew.
"""

from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller, parse_caller
from amalgam8.model.rule import Abort, Action, Backend, Delay, Match, Route, Rule, Source, rfc3339
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile, concerns, fits, sources  # noqa: A004
from amalgam8.routing.plan import encode_part

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


names = st.sampled_from(["web", "gateway", "reviews"])
tags = st.lists(st.sampled_from(["v1", "v2", "blue"]), max_size=3, unique=True).map(tuple)
callers = st.builds(caller, names | st.just(""), tags)
matches = st.none() | st.builds(
    Match,
    st.none() | st.builds(Source, names | st.just(""), tags),
    st.dictionaries(st.sampled_from(["Cookie", "X-User"]), st.sampled_from(["a", "b+"]), max_size=2),
)
dice = st.sampled_from([0, 0.0, 0.25, 1, 1.0])
actions = st.builds(Delay, st.sampled_from([0.5, 7.0]), dice, tags) | st.builds(
    Abort, st.just(503), dice, tags
)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Backends whose weights the rule language allows."""
    left, backends = 10_000, []
    for _ in range(draw(st.integers(0, 3))):
        units = draw(st.integers(1, left)) if left else 0
        left -= units
        backends.append(Backend(draw(names | st.just("")), draw(tags), units / 10_000))
    backends = [backend for backend in backends if backend.weight]
    if left or not backends:
        backends += [Backend(tags=(f"rest{i}",)) for i in range(draw(st.integers(1, 7)))]
    return Route(tuple(draw(st.permutations(backends))))


@st.composite
def rules(draw: st.DrawFn) -> list[Rule]:
    made = []
    for i in range(draw(st.integers(0, 6))):
        route = draw(st.none() | routes())
        done: tuple[Action, ...] = () if route else tuple(draw(st.lists(actions, min_size=1, max_size=3)))
        made.append(
            Rule(
                f"rule-{i}",
                draw(st.integers(-1, 1)),
                "reviews",
                match=draw(matches),
                route=route,
                actions=done,
                created=rfc3339(draw(st.integers(0, 2))),
            )
        )
    return made


@given(rules(), callers, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(given_rules: list[Rule], who: Caller, random: object) -> None:
    shuffled = list(given_rules)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compile(shuffled, who) == compile(given_rules, who)


@given(rules(), callers)
def test_equal_input_makes_equal_bytes(given_rules: list[Rule], who: Caller) -> None:
    """Also when it went through JSON, as it does in a store."""
    part = compile(given_rules, who)
    stored = msgspec.json.decode(msgspec.json.encode(given_rules), type=list[Rule])
    again = compile(stored, Caller(who.service, who.tags))
    assert (part is None) == (again is None)
    if part is not None and again is not None:
        assert encode_part(part) == encode_part(again)


@given(rules(), callers)
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
            wanted[(backend.name or "reviews", tuple(sorted(backend.tags)))] += share
        assert shares == {key: share for key, share in wanted.items() if share}
        assert all(backend.weight >= 1 for backend in entry.backends)


@given(rules(), callers)
def test_only_rules_that_concern_the_caller_are_there(given_rules: list[Rule], who: Caller) -> None:
    part = compile(given_rules, who)
    there = ({entry.rule for entry in part.routes} | {entry.rule for entry in part.faults}) if part else set()
    assert there == {rule.id for rule in given_rules if concerns(rule, who)}


@given(rules(), callers, callers)
def test_callers_that_no_source_tells_apart_have_equal_parts(
    given_rules: list[Rule], one: Caller, other: Caller
) -> None:
    found = sources(given_rules)
    if [fits(source, one) for source in found] == [fits(source, other) for source in found]:
        assert compile(given_rules, one) == compile(given_rules, other)


@pytest.mark.parametrize(
    ("source", "who", "fit"),
    [
        (Source("web"), caller("web"), True),
        (Source("web"), caller("web", ["v1"]), True),
        (Source("web", ("v1",)), caller("web", ["v1", "blue"]), True),
        (Source("web", ("v1", "blue")), caller("web", ["v1"]), False),
        (Source("web"), caller("Web"), False),
        (Source("web"), caller(""), False),
        (Source("", ("v1",)), caller("anyone", ["v1"]), True),
        (Source(), caller(""), True),
    ],
)
def test_a_source_fits(source: Source, who: Caller, fit: bool) -> None:
    assert fits(source, who) is fit


def test_no_rules_is_no_part() -> None:
    assert compile([], caller("web")) is None
