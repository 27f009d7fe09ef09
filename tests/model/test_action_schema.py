"""Schemas of actions: held to the reader's own corpus."""

from typing import Any

import jsonschema
import pytest

from amalgam8.model.action_reader import ACTIONS_LIMIT
from amalgam8.model.action_schema import action_schemas
from amalgam8.model.schema import rule_schema
from tests.model.test_action_reader import READ, REFUSED, WRONG_TYPES

VALIDATOR = jsonschema.Draft202012Validator(rule_schema())

BEYOND = (
    "$[0].set.a: is the same header as A",
    "$[0]: both sets and removes a",
    "$[0].scope: fleet goes with the keys all and caller",
)
"""What a schema cannot tell."""


def valid(*actions: Any) -> bool:
    return bool(VALIDATOR.is_valid({"rules": [{"destination": "d", "actions": list(actions)}]}))


@pytest.mark.parametrize(("action", "_found"), READ)
def test_what_is_read_is_valid(action: Any, _found: Any) -> None:
    assert valid(action)


@pytest.mark.parametrize(("action", "words"), REFUSED)
def test_what_is_refused_is_not_where_a_schema_can_tell(action: Any, words: str) -> None:
    assert valid(action) is (words in BEYOND)


@pytest.mark.parametrize(("action", "_words"), WRONG_TYPES)
def test_a_wrong_type_is_not_valid(action: Any, _words: str) -> None:
    assert not valid(action)


def test_there_is_one_for_each_action() -> None:
    assert set(action_schemas()) == {action["action"] for action, _ in READ}
    assert not valid(*[{"action": "deny"}] * (ACTIONS_LIMIT + 1))
