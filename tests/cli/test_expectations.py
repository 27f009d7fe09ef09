"""Expectations: each is met by what it says and by nothing else."""

from typing import Any

import pytest

from amalgam8.cli.expectations import Differs, differences
from amalgam8.cli.suite_reader import read_suite
from amalgam8.routing.explain import Call, Explanation, explain
from tests.routing.language import one
from tests.routing.test_explain import NOW, WEB, rules_of, world

INSTANCES = {
    "reviews": (one("reviews", 1, "v1"), one("reviews", 2, "v2"), one("reviews", 3, "v2", "canary")),
}
SPLIT = {"id": "split", "route": {"backends": [{"tags": ["v2"], "weight": 0.25}, {"tags": ["v1"]}]}}
SLOW = {
    "id": "slow",
    "actions": [
        {"action": "delay", "duration": 7, "tags": ["v2"]},
        {"action": "abort", "return_code": 503, "probability": 0.5},
    ],
}
DENY = {"id": "no", "actions": [{"action": "deny"}]}
OTHER = {
    "id": "other",
    "actions": [
        {"action": "headers", "set": {"X-A": "1"}, "remove": ["B"]},
        {"action": "rate_limit", "requests": 5, "per": 60},
    ],
}
EVERYBODY = [SPLIT, SLOW, OTHER]


def explained(*documents: dict[str, Any]) -> Explanation:
    return explain(world(rules_of(*documents), WEB, INSTANCES), WEB, Call("reviews", "/x"), NOW)


def held(expect: dict[str, Any], *documents: dict[str, Any]) -> list[Differs]:
    (test,) = read_suite({"tests": [{"destination": "reviews", "expect": expect}]}, "t.yaml").tests
    return list(differences(test.expect, explained(*documents)))


@pytest.mark.parametrize(
    ("documents", "expect"),
    [
        (EVERYBODY, {"versions": {"v1": 0.75, "v2": 0.25}}),
        (EVERYBODY, {"versions": {"v1": [0.7, 0.8], "reviews:v2": [0.2, 0.25]}}),
        (EVERYBODY, {"versions": {"any": 1}}),
        (EVERYBODY, {"versions": {"v2": 0.25, "any": 0.75}}),
        ([SLOW], {"versions": {"any": 1}}),
        (EVERYBODY, {"faults": [{"delay": 7, "version": "v2"}, {"abort": 503, "probability": 0.5}]}),
        (EVERYBODY, {"faults": [{"delay": 7, "version": "v2"}, {"abort": 503, "probability": [0.4, 0.6]}]}),
        ([SPLIT], {"faults": [], "refusal": "none", "service": "reviews", "path": "/x"}),
        ([DENY], {"refusal": "denied", "versions": {}, "faults": [], "rules": ["no"]}),
        ([DENY], {"refusal": {"kind": "denied", "rule": "no"}}),
        (
            [{"id": "r", "route": {"backends": [{"tags": ["v9"]}]}}],
            {"refusal": {"kind": "unavailable", "rule": "r"}},
        ),
        (EVERYBODY, {"headers": {"x-a": "1", "b": None}, "limits": ["5/60s"]}),
        (EVERYBODY, {"rules": ["split", "slow", "other"]}),
    ],
)
def test_met(documents: list[dict[str, Any]], expect: dict[str, Any]) -> None:
    assert held(expect, *documents) == []


@pytest.mark.parametrize(
    ("documents", "expect", "what"),
    [
        (EVERYBODY, {"versions": {"v1": 0.75}}, "versions"),
        (EVERYBODY, {"versions": {"v1": 0.5, "v2": 0.5}}, "versions"),
        (EVERYBODY, {"versions": {"v1": 0.75, "v2": 0.25, "v3": 0.1}}, "versions"),
        (EVERYBODY, {"versions": {"ratings:v1": 0.75, "v2": 0.25}}, "versions"),
        (EVERYBODY, {"versions": {"v1": [0.8, 1], "v2": 0.25}}, "versions"),
        (EVERYBODY, {"faults": []}, "faults"),
        (EVERYBODY, {"faults": [{"delay": 7, "version": "v2"}]}, "faults"),
        (EVERYBODY, {"faults": [{"delay": 7}, {"abort": 503, "probability": 0.5}]}, "faults"),
        (
            EVERYBODY,
            {"faults": [{"delay": 8, "version": "v2"}, {"abort": 503, "probability": 0.5}]},
            "faults",
        ),
        (EVERYBODY, {"faults": [{"delay": 7, "version": "v2"}, {"abort": 503}]}, "faults"),
        ([DENY], {"faults": [{"delay": 7}]}, "faults"),
        ([DENY], {"refusal": "none"}, "refusal"),
        ([DENY], {"refusal": {"kind": "denied", "rule": "other"}}, "refusal"),
        ([SPLIT], {"refusal": "unavailable"}, "refusal"),
        (EVERYBODY, {"headers": {"x-a": "2", "b": None}}, "headers"),
        (EVERYBODY, {"headers": {"x-a": "1"}}, "headers"),
        (EVERYBODY, {"limits": []}, "limits"),
        (EVERYBODY, {"rules": ["split"]}, "rules"),
        ([SPLIT], {"service": "ratings"}, "service"),
        ([SPLIT], {"path": "/y"}, "path"),
    ],
)
def test_not_met(documents: list[dict[str, Any]], expect: dict[str, Any], what: str) -> None:
    assert [each.what for each in held(expect, *documents)] == [what]


def test_both_sides_have_words() -> None:
    versions, faults = held(
        {"versions": {"v1": 1}, "faults": [{"abort": -1, "probability": [0.1, 0.2], "version": "v2"}]},
        SPLIT,
        SLOW,
    )
    assert versions.expected == ("v1: 100 %",)
    assert versions.got == ("reviews:v2: 25 %", "reviews:v1: 75 %")
    assert faults.expected == ("abort -1 (10 % to 20 %) in v2",)
    assert faults.got == ("delay 7 (100 %) in v2", "abort 503 (50 %) in v2; v1")
