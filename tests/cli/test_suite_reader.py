"""Files of rule tests: what is read of them, and where it says that something is wrong."""

from typing import Any

import pytest

from amalgam8.cli.expectations import Expect, Fault
from amalgam8.cli.suite_reader import read_suite
from amalgam8.model.caller import caller
from amalgam8.model.errors import InvalidInput
from amalgam8.routing.explain import Call


def test_everything_is_read() -> None:
    suite = read_suite(
        {
            "instances": {"reviews": [{"tags": ["v1"]}, {"tags": ["v2"], "count": 2}], "ratings": []},
            "tests": [
                {
                    "name": "one",
                    "source": {"name": "web", "tags": ["v1"]},
                    "destination": "reviews",
                    "path": "/x",
                    "method": "POST",
                    "headers": {"A": "1"},
                    "expect": {
                        "versions": {"v1": 0.25, "reviews:v2,canary": [0.5, 0.75], "any": 0},
                        "faults": [{"delay": 7}, {"abort": -1, "probability": [0.1, 0.2], "version": "v2"}],
                        "refusal": {"kind": "denied", "rule": "no"},
                        "rules": ["a"],
                        "service": "reviews",
                        "path": "/x",
                        "headers": {"X-A": "1", "B": None},
                        "limits": ["5/1s"],
                    },
                }
            ],
        },
        "t.yaml",
    )
    (test,) = suite.tests
    assert (test.name, test.caller, test.call) == (
        "one",
        caller("web", ["v1"]),
        Call("reviews", "/x", "POST", {"A": "1"}),
    )
    assert test.expect == Expect(
        versions={("", ("v1",)): (0.25, 0.25), ("reviews", ("canary", "v2")): (0.5, 0.75), ("", ()): (0, 0)},
        faults=(Fault("delay", 7, (1, 1)), Fault("abort", -1, (0.1, 0.2), ("v2",))),
        refusal=("denied", "no"),
        rules=("a",),
        service="reviews",
        path="/x",
        headers={"x-a": "1", "b": None},
        limits=("5/1s",),
    )
    assert suite.instances is not None
    assert {name: [one.tags for one in group] for name, group in suite.instances.items()} == {
        "reviews": [("v1",), ("v2",), ("v2",)],
        "ratings": [],
    }
    assert len({one.id for group in suite.instances.values() for one in group}) == 3


def test_a_test_has_a_name_by_its_call() -> None:
    suite = read_suite({"tests": [{"destination": "reviews", "expect": {"faults": []}}]}, "t.yaml")
    assert suite.tests[0].name == "anybody to reviews/"
    assert suite.instances is None


GOOD: dict[str, Any] = {"destination": "reviews", "expect": {"faults": []}}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], r"\$: expected an object"),
        ({}, r"\$.tests: must be a list of at least one test"),
        ({"test": [GOOD]}, r"\$.test: unknown member; did you mean tests\?"),
        (
            {"tests": [{**GOOD, "expects": {}}]},
            r"\$.tests\[0\].expects: unknown member; did you mean expect\?",
        ),
        ({"tests": [{"destination": "d"}]}, r"\$.tests\[0\].expect: is missing"),
        ({"tests": [{"destination": "d", "expect": {}}]}, r"\$.tests\[0\].expect: expects nothing"),
        ({"tests": [{"expect": {"faults": []}}]}, r"\$.tests\[0\].path: is missing"),
        ({"tests": [GOOD, GOOD]}, r"\$.tests\[1\].name: anybody to reviews/ is the name of a test before it"),
        ({"tests": [{**GOOD, "expect": {"versions": {"v1": 2}}}]}, r"versions.v1: must be between 0 and 1"),
        ({"tests": [{**GOOD, "expect": {"versions": {"v1": [0.5]}}}]}, r"versions.v1: must be \[low, high\]"),
        ({"tests": [{**GOOD, "expect": {"versions": ["v1"]}}]}, "versions: expected an object of versions"),
        ({"tests": [{**GOOD, "expect": {"faults": {}}}]}, "faults: expected a list such as"),
        ({"tests": [{**GOOD, "expect": {"faults": [{}]}}]}, r"faults\[0\]: must give either delay"),
        ({"tests": [{**GOOD, "expect": {"refusal": "no"}}]}, "refusal: must be one of none, unknown, denied"),
        ({"tests": [{**GOOD, "expect": {"refusal": {}}}]}, "refusal.kind: must be one of"),
        ({"tests": [GOOD], "instances": {"a": [{"tags": "v1"}]}}, r"instances.a\[0\].tags: expected a list"),
        (
            {"tests": [GOOD], "instances": {"a": [{"count": 5000}]}},
            r"instances.a\[0\].count: must be between",
        ),
        ({"tests": [GOOD], "instances": {"a": {}}}, "instances.a: expected a list such as"),
    ],
)
def test_what_is_wrong_is_told_where(document: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        read_suite(document, "t.yaml")
    assert str(refused.value).startswith("t.yaml: $")
