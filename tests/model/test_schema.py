"""The schema and the reader agree: what is taken is valid, and what a schema can tell is refused by both."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import InvalidInput
from amalgam8.model.rule_reader import read_list
from amalgam8.model.schema import rule_schema
from tests.conformance.case import read_cases
from tests.examples.programs import EXAMPLES
from tests.model.test_rule_reader import ACCEPTED, DELAY, REFUSED, ROUTE, V1, WRONG_TYPES

VALIDATOR = jsonschema.Draft202012Validator(rule_schema())

BEYOND = {
    "weight too small",
    "weights above 1",
    "weights below 1",
    "a block's pattern",
    "a header twice",
    "look-ahead",
    "back-reference",
    "open bracket",
    "star alone",
    "a pattern that would explode",
}
"""What the reader alone refuses, because a schema cannot tell."""


def valid(*rules: Any) -> bool:
    return bool(VALIDATOR.is_valid({"rules": list(rules)}))


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(rule_schema())


@pytest.mark.parametrize("rule", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_accepted_is_valid(rule: Any) -> None:
    VALIDATOR.validate({"rules": [rule]})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_not_where_a_schema_can_tell(name: str) -> None:
    assert valid(REFUSED[name][0]) is (name in BEYOND)


@pytest.mark.parametrize(("rule", "_path"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_a_wrong_type_is_not_valid(rule: Any, _path: str) -> None:
    assert not valid(rule)


@pytest.mark.parametrize("case", read_cases(), ids=lambda case: case.name)
def test_rules_of_the_conformance_suite_are_valid(case: Any) -> None:
    rules = [{"destination": "d", **rule} for rule in case.rules]
    for rule in rules:
        if isinstance(rule.get("expires"), (int, str)):
            rule["expires"] = "2030-01-31T12:00:00Z"
    assert not rules or valid(*rules)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/rules/*.yaml")), ids=lambda path: path.name)
def test_rules_of_the_examples_are_valid(file: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"rules": [ROUTE], "revision": 7}, True),
        ([ROUTE], True),
        (ROUTE, True),
        ({"rules": []}, False),
        ([], False),
        ({"rules": [ROUTE], "rule": []}, False),
        ({"rules": {}}, False),
        ("rules", False),
    ],
)
def test_forms_of_a_file(document: Any, wanted: bool) -> None:
    assert VALIDATOR.is_valid(document) is wanted


members = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["a", "", "a b", None, 7]),
        "priority": st.sampled_from([1, -1, None, 2**31, "1"]),
        "destination": st.sampled_from(["d", "a/b", None, ""]),
        "tags": st.sampled_from([[], ["a", "a"], [""], None, "a"]),
        "match": st.sampled_from(
            [None, {}, {"source": {}}, {"headers": {"A": "x"}}, {"headers": {}}, {"any": [{}]}, {"any": None}]
        ),
        "route": st.sampled_from(
            [
                None,
                {},
                {"backends": [V1]},
                {"backends": [V1], "affinity": {"header": "", "cookie": "u"}},
                {"backends": [{**V1, "name": "", "weight": None}], "uri": {"path": "", "prefix": "/x"}},
                {"backends": [V1], "uri": {"prefix_rewrite": "/x", "path": None}},
            ]
        ),
        "actions": st.sampled_from([None, [], [DELAY], [{"action": "deny"}], [{"action": None}], [None]]),
        "expires": st.sampled_from(["", None, "2030-01-31T12:00:00Z", "2030-01-31 12:00+01", "soon"]),
        "ttl": st.sampled_from([0, 1.5, None, -1]),
        "description": st.sampled_from(["", "x", None, 7]),
        "other": st.just(1),
    },
)


@given(members)
def test_a_mixture_is_judged_alike(rule: dict[str, Any]) -> None:
    """Nothing in this mixture is beyond a schema, so both say the same."""
    try:
        read_list({"rules": [rule]})
    except InvalidInput:
        assert not valid(rule)
    else:
        assert valid(rule)
