"""Verdicts: what each rule does to a call, and what keeps it from acting."""

from typing import Any

from amalgam8.routing.explain import Call, Explanation, explain
from amalgam8.routing.verdict import RULES_SHOWN, Effect
from tests.routing.language import one
from tests.routing.test_explain import NOW, WEB, route, rules_of, world

INSTANCES = {"reviews": (one("reviews", 1, "v1"), one("reviews", 2, "v2")), "api": (one("api", 3, "v1"),)}


def explained(*documents: dict[str, Any], call: Call | None = None) -> Explanation:
    return explain(world(rules_of(*documents), WEB, INSTANCES), WEB, call or Call("reviews"), NOW)


def states(found: Explanation) -> dict[str, list[tuple[str, str, str]]]:
    return {each.id: [(one.kind, one.state, one.by) for one in each.effects] for each in found.rules}


def test_the_first_of_its_kind_hides_the_others() -> None:
    found = explained(
        route("v2", id="high", priority=2),
        route("v1", id="low"),
        {"id": "slow", "priority": 1, "actions": [{"action": "delay", "duration": 1}]},
        {
            "id": "both",
            "actions": [{"action": "abort", "return_code": 503}, {"action": "headers", "remove": ["x"]}],
        },
    )
    assert states(found) == {
        "high": [("route", "acts", "")],
        "slow": [("fault", "acts", "")],
        "low": [("route", "hidden", "high")],
        "both": [("fault", "hidden", "slow"), ("headers", "acts", "")],
    }
    assert [each.id for each in found.rules] == ["high", "slow", "low", "both"]


def test_a_refused_call_reaches_no_other_rule() -> None:
    found = explained(
        route("v2", id="route"),
        {"id": "no", "actions": [{"action": "deny"}]},
        {"id": "yes", "actions": [{"action": "allow"}]},
    )
    assert states(found) == {
        "route": [("route", "unreached", "no")],
        "no": [("access", "acts", "")],
        "yes": [("access", "hidden", "no")],
    }
    assert found.refusal
    assert (found.refusal.status, found.refusal.rule) == (403, "no")


def test_an_allow_of_others_refuses() -> None:
    found = explained({"id": "yes", "match": {"source": {"name": "api"}}, "actions": [{"action": "allow"}]})
    (verdict,) = found.rules
    assert not verdict.matches
    assert verdict.effects == (Effect("access", "acts", "refuses the call, since it allows others only"),)


def test_a_fault_whose_tags_no_version_carries_is_missed() -> None:
    found = explained(
        route("v1", id="r"),
        {"id": "f", "actions": [{"action": "delay", "duration": 1, "tags": ["v2"]}]},
    )
    assert states(found)["f"] == [("fault", "missed", "")]


def test_a_uri_is_reached_by_its_path_only() -> None:
    api = {
        "id": "u",
        "destination": "api",
        "route": {"backends": [{"tags": ["v1"]}], "uri": {"prefix": "/re"}},
    }
    only = {**api, "match": {"headers": {"X": "1"}}}
    taken = explained(route("v1", id="r"), api)
    assert taken.service == "api"
    assert states(taken) == {"u": [("route", "acts", "")]}
    passed = explained(route("v1", id="r"), only)
    assert passed.service == "reviews"
    assert [(each.id, each.matches) for each in passed.rules] == [("u", False), ("r", True)]
    inside = explained(api, call=Call("api", "/re"))
    assert states(inside) == {"u": [("route", "aside", "")]}


def test_rules_behind_a_uri_that_took_the_call_are_hidden() -> None:
    uri = {"id": "u", "route": {"backends": [{"tags": ["v1"]}], "uri": {"path": "/api"}}}
    assert states(explained(route("v2", id="r"), uri, call=Call("", "/api"))) == {
        "r": [("route", "hidden", "u")],
        "u": [("route", "acts", "")],
    }


def test_a_lapsed_rule_says_when_it_ended() -> None:
    found = explained(route("v2", id="r", expires="1970-01-01T00:00:05Z"))
    assert [reason.path for reason in found.rules[0].reasons] == ["$.expires"]
    assert not found.rules[0].matches


def test_an_answer_has_a_bound() -> None:
    many = [route("v1", id=f"r{i}", match={"headers": {"X": "1"}}) for i in range(RULES_SHOWN + 10)]
    found = explained(*many, route("v2", id="last", priority=-1))
    assert len(found.rules) == RULES_SHOWN
    assert found.notes == ("11 more rules, which do not act, were left out",)
    assert found.rules[-1].id == "last"
