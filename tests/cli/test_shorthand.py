"""Rules in one line: what they become, over the wire to a real controller."""

from typing import Any

import pytest

from amalgam8.cli.shorthand import action_rule, route_rules
from amalgam8.model.errors import InvalidSetting
from tests.cli.real import Real
from tests.controller.rules import delay


def said(rules: list[dict[str, Any]]) -> list[tuple[int, Any, Any]]:
    return [(rule["priority"], rule.get("match"), rule["route"]["backends"]) for rule in rules]


def test_a_default_and_weights() -> None:
    assert said(route_rules("reviews", "v1,blue", ["v2(weight=0.1)", "v3( weight = 0.2 )"], "")) == [
        (
            1,
            None,
            [{"tags": ["v2"], "weight": 0.1}, {"tags": ["v3"], "weight": 0.2}, {"tags": ["v1", "blue"]}],
        )
    ]


def test_the_first_selector_is_tried_first() -> None:
    found = route_rules("reviews", "v1", ['v2(user="jason")', 'v3(header="X-Beta:^(a|b)$")'], "")
    assert said(found) == [
        (1, None, [{"tags": ["v1"]}]),
        (2, {"headers": {"X-Beta": "^(a|b)$"}}, [{"tags": ["v3"]}]),
        (3, {"headers": {"Cookie": ".*?user=jason"}}, [{"tags": ["v2"]}]),
    ]


def test_with_a_source_the_others_get_the_default() -> None:
    found = route_rules("reviews", "v1", ["v2(weight=0.5)", "v3(user=joe)"], "web:v1,x")
    source = {"source": {"name": "web", "tags": ["v1", "x"]}}
    assert said(found) == [
        (1, None, [{"tags": ["v1"]}]),
        (2, source, [{"tags": ["v2"], "weight": 0.5}, {"tags": ["v1"]}]),
        (3, {**source, "headers": {"Cookie": ".*?user=joe"}}, [{"tags": ["v3"]}]),
    ]


@pytest.mark.parametrize(
    "selector", ["v2", "v2()", "v2(weight)", "v2(wait=1)", "v2(weight=x)", "(weight=1)", 'v2(header="X")']
)
def test_selectors_that_cannot_be(selector: str) -> None:
    with pytest.raises(InvalidSetting, match="is not allowed"):
        route_rules("reviews", "v1", [selector], "")


def test_actions() -> None:
    actions = ["v1(0.5->delay=7)", "(1->abort=503)", "-untagged-(abort=-1)", "v1,x(1.0->delay=0.5)"]
    found = action_rule("ratings", actions, "reviews:v2", ["X-A:b:c"], ["user=jason"])
    assert found == {
        "destination": "ratings",
        "match": {
            "source": {"name": "reviews", "tags": ["v2"]},
            "headers": {"X-A": "b:c", "Cookie": ".*?user=jason"},
        },
        "actions": [
            {"action": "delay", "duration": 7.0, "probability": 0.5, "tags": ["v1"]},
            {"action": "abort", "return_code": 503, "probability": 1.0},
            {"action": "abort", "return_code": -1},
            {"action": "delay", "duration": 0.5, "probability": 1.0, "tags": ["v1", "x"]},
        ],
    }


@pytest.mark.parametrize("action", ["v1", "v1(delay)", "v1(1->slow=3)", "v1(1->abort=5.5)", "v1(x->delay=1)"])
def test_actions_that_cannot_be(action: str) -> None:
    with pytest.raises(InvalidSetting, match="is not allowed"):
        action_rule("ratings", [action], "web", [], [])


@pytest.mark.parametrize(
    ("source", "headers", "cookies"),
    [("", [], []), ("", ["X"], []), ("", [], ["user"]), ("", [], ["a=b", "c=d"])],
)
def test_which_calls_must_be_said(source: str, headers: list[str], cookies: list[str]) -> None:
    with pytest.raises(InvalidSetting):
        action_rule("ratings", ["v1(1->delay=1)"], source, headers, cookies)


async def test_routes_are_replaced_and_deleted(mesh: Real) -> None:
    client = mesh.controller.client
    assert (await mesh("route-set", "reviews", "--default", "v1", "--selector", "v2(user=joe)")).code == 0
    ran = await mesh("route-set", "reviews", "--default", "v2", "--wait", "--comment", "all of it")
    assert (ran.code, ran.out) == (0, "Set the routes of reviews.\n")
    (rule,) = (await client.routes())["reviews"]
    assert rule["route"]["backends"] == [{"tags": ["v2"]}]
    assert (await mesh("route-delete", "reviews")).code == 0
    assert await client.routes() == {}
    assert (await mesh("route-set", "reviews")).code == 2


async def test_actions_are_added_above_the_others_and_cleared(mesh: Real) -> None:
    client = mesh.controller.client
    add = ("action-add", "--destination", "ratings", "--source", "web", "--action", "v1(1->delay=7)")
    for flags in ((), (), ("--priority", "3"), ()):
        assert (await mesh(*add, *flags)).code == 0
    assert [rule["priority"] for rule in (await client.actions())["ratings"]] == [30, 20, 10, 3]
    await client.create([delay("details", id="other")])
    assert (await mesh("action-clear", "ratings")).code == 0
    assert list(await client.actions()) == ["details"]
    ran = await mesh("rule-clear", "--force")
    assert (ran.code, ran.out) == (0, "Deleted 1 action rule.\n")
    assert await client.actions() == {}
    assert (await mesh("rule-clear", "--force")).out == "Deleted 0 action rules.\n"
