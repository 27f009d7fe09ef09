"""The words of an explanation."""

from typing import Any

from amalgam8.cli.explained import facets, percent, side_by_side, verdict_rows
from amalgam8.routing.explain import Call, Explanation, World, explain
from tests.routing.language import one
from tests.routing.test_explain import NOW, WEB, route, rules_of, world

INSTANCES = {"reviews": (one("reviews", 1, "v1"), one("reviews", 2, "v2"), one("reviews", 3, "v2"))}


def explained(*documents: dict[str, Any]) -> Explanation:
    found: World = world(rules_of(*documents), WEB, INSTANCES)
    return explain(found, WEB, Call("reviews", "/x"), NOW)


def test_everything_that_can_happen_has_words() -> None:
    found = facets(
        explained(
            {
                "id": "split",
                "route": {
                    "backends": [{"tags": ["v2"], "weight": 0.3333}, {"tags": ["v9"]}],
                    "http_req_timeout": 3,
                    "http_req_retries": 2,
                    "affinity": {"cookie": "user"},
                },
            },
            {
                "id": "acts",
                "actions": [
                    {"action": "delay", "duration": 2, "probability": 0.5},
                    {"action": "abort", "return_code": -1, "tags": ["v2"]},
                    {"action": "abort", "return_code": 503, "probability": 0.1},
                    {"action": "trace", "log_key": "k", "log_value": "v"},
                    {"action": "rate_limit", "requests": 5, "per": 60, "burst": 2, "key": "header:x-user"},
                    {"action": "headers", "set": {"A": "1"}, "remove": ["b"]},
                    {"action": "mirror", "tags": ["v2"], "percent": 10},
                ],
            },
        )
    )
    assert found == {
        "Service": ["reviews (by path)"],
        "Path": ["/x"],
        "Limits": ["5 in 60 s, and 2 at once, for each x-user"],
        "Headers": ["set a: 1", "remove b"],
        "Affinity": ["a user stays on one version, by the cookie user"],
        "Versions": [
            (
                "33.33 % reviews:v2, 2 instances, delay 2 s (50 %), no answer, abort 503 (10 %), 3 s at most,"
                " retries 2, recorded k=v"
            ),
            (
                "66.67 % reviews:v9, 0 instances, delay 2 s (50 %), abort 503 (10 %), 503 unavailable,"
                " by split, 3 s at most, retries 2, recorded k=v"
            ),
        ],
        "Copies": ["10 % to v2, 2 instances"],
        "Rules that act": ["acts", "split"],
    }


def test_a_refusal_has_words() -> None:
    assert facets(explained({"id": "no", "actions": [{"action": "deny"}]}))["Answer"] == ["403 denied, by no"]


def test_what_differs_is_marked() -> None:
    now, then = facets(explained(route("v1", id="r"))), facets(explained(route("v2", id="r")))
    rows = {row[0]: row[1:] for row in side_by_side(now, then)}
    assert rows["* Versions"] == ("100 % reviews:v1, 1 instance", "100 % reviews:v2, 2 instances")
    assert rows["Rules that act"] == ("r", "r")


def test_a_rule_has_a_row_for_each_thing_to_say() -> None:
    match = {"source": {"name": "api", "tags": ["v2"]}}
    rows = list(verdict_rows(explained(route("v1", id="r", match=match)).rules))
    assert rows == [
        ("r", "reviews", "0", "no", "the caller is web, not api"),
        ("", "", "", "", "the caller lacks the tag v2; it has v1"),
    ]


def test_shares_are_exact() -> None:
    assert [percent(share) for share in (1, 0.3333, 0.0001, 1 / 3)] == [
        "100 %",
        "33.33 %",
        "0.01 %",
        "33.3333 %",
    ]
