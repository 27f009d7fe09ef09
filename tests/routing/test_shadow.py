"""Shadowed rules: what is called so never acts, and plain cases are seen."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amalgam8.model.caller import Caller
from amalgam8.model.rule import Match, Rule
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.decide import Request, seen
from amalgam8.routing.explain import Call, explain
from amalgam8.routing.reasons import reasons
from amalgam8.routing.shadow import covers, shadows
from tests.routing import language
from tests.routing.test_explain import NOW, route, rules_of, world


@settings(max_examples=200)
@given(
    language.matches,
    language.matches,
    st.lists(st.tuples(language.callers, language.requests), min_size=4, max_size=8),
)
def test_a_wider_match_holds_where_the_narrower_does(
    wide: Match | None, narrow: Match | None, calls: list[tuple[Caller, Request]]
) -> None:
    assert covers(wide, wide)
    if covers(wide, narrow):
        for who, request in calls:
            headers = seen(request.headers)
            if not reasons(narrow, who, headers):
                assert not reasons(wide, who, headers)


@settings(max_examples=100)
@given(language.rules(), language.callers, language.instances, language.requests)
def test_a_shadowed_rule_never_acts(
    rules: list[Rule], who: Caller, instances: dict[str, Any], request: Request
) -> None:
    hidden = {(each.rule.id, kind) for each in shadows(rules) for kind in each.kinds}
    call = Call("", request.path, "GET", request.headers)
    # Whatever has lapsed by now hides nothing any more: ask before anything has.
    found = explain(world(rules, who, instances), who, call, NOW - 6)
    acting = {(rule.id, one.kind) for rule in found.rules for one in rule.effects if one.state == "acts"}
    assert not hidden & acting


def shadowed(*documents: dict[str, Any]) -> list[tuple[str, str, tuple[str, ...], bool]]:
    rules = rules_of(*documents)
    return [(each.rule.id, each.by.id, each.kinds, each.whole) for each in shadows(rules)]


JASON = {"headers": {"Cookie": "user=jason"}}
FROM_WEB = {"source": {"name": "web"}}


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ({}, {}),
        ({}, {"match": JASON}),
        ({"match": FROM_WEB}, {"match": {"source": {"name": "web", "tags": ["v1"]}, **JASON}}),
        ({"match": {"headers": {"cookie": "user=jason"}}}, {"match": {"all": [JASON]}}),
        ({"match": {"any": [FROM_WEB, JASON]}}, {"match": JASON}),
        ({"match": {"any": [FROM_WEB, JASON]}}, {"match": {"any": [JASON]}}),
        ({"match": {"none": [{**FROM_WEB, **JASON}]}}, {"match": {"none": [FROM_WEB]}}),
    ],
)
def test_a_route_that_can_never_be_chosen(above: dict[str, Any], below: dict[str, Any]) -> None:
    found = shadowed(route("v1", id="above", priority=1, **above), route("v2", id="below", **below))
    assert found == [("below", "above", ("route",), True)]


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ({"match": JASON}, {}),
        ({"match": JASON}, {"match": FROM_WEB}),
        ({"match": {"none": [JASON]}}, {"match": {"none": [{**FROM_WEB, **JASON}]}}),
        ({"match": {"any": [JASON]}}, {"match": {"any": [JASON, FROM_WEB]}}),
        ({"destination": "ratings"}, {}),
        ({"ttl": 60}, {}),
        ({"ttl": 60}, {"ttl": 61}),
        ({"ttl": 60}, {"expires": "2030-01-01T00:00:00Z"}),
    ],
)
def test_a_route_that_may_be_chosen(above: dict[str, Any], below: dict[str, Any]) -> None:
    found = shadowed(route("v1", id="above", priority=1, **above), route("v2", id="below", **below))
    assert found == []


def test_kinds_are_told_apart() -> None:
    slow = {"action": "delay", "duration": 1}
    found = shadowed(
        {"id": "above", "priority": 1, "actions": [slow]},
        {
            "id": "both",
            "actions": [{"action": "abort", "return_code": 503}, {"action": "headers", "remove": ["x"]}],
        },
        {"id": "only", "actions": [slow]},
        {"id": "no", "actions": [{"action": "deny"}]},
        {"id": "never", "actions": [{"action": "deny"}]},
        {"id": "longer", "ttl": 0, "actions": [slow]},
    )
    assert found == [("both", "above", ("fault",), False), ("only", "above", ("fault",), True)]


def test_outer_paths_hide_outer_paths() -> None:
    def outer(identity: str, priority: int, **uri: str) -> dict[str, Any]:
        backends = [{"tags": ["v1"]}]
        return {"id": identity, "priority": priority, "route": {"backends": backends, "uri": uri}}

    found = shadowed(
        outer("api", 9, prefix="/api"),
        outer("below", 1, path="/api/x"),
        outer("other", 1, path="/x"),
        outer("same", 0, path="/x"),
        route("v1", id="plain"),
    )
    assert [(rule, by) for rule, by, *_ in found] == [("below", "api"), ("same", "other")]


def test_rules_that_are_told_apart_hide_nothing() -> None:
    documents = [
        {"id": f"r{i}", "destination": "d", "match": {"headers": {"X": str(i)}}, **route("v1")}
        for i in range(300)
    ]
    assert list(shadows(read_list({"rules": documents}))) == []
