"""What a difference between a rule and its object means."""

import msgspec
import pytest

from amalgam8.catalogs.kubernetes.objects import Meta
from amalgam8.controller.book import Written
from amalgam8.controller.kubernetes_objects import RuleObject, RuleStatus, rule_object
from amalgam8.controller.kubernetes_sync import step
from amalgam8.model.rule import Rule
from tests.controller.rules import route

RULE = route("a", created="2030-01-01T00:00:00Z")
OTHER = route("a", version="v2", created="2030-01-01T00:00:00Z")


def shown(rule: Rule | None, at: int | None, state: str = "", *, judged: int = 1) -> RuleObject:
    """An object of generation 1 that holds ``rule``, written for revision ``at``."""
    document = rule_object("default", rule or RULE, Written(at or 0, "then"))
    notes = document["metadata"]["annotations"] if at is not None else {}
    spec = msgspec.Raw(msgspec.json.encode(rule) if rule else b'{"destination":7}')
    status = RuleStatus(state, observed_generation=judged) if state else None
    return RuleObject(metadata=Meta("a", "mesh", generation=1, annotations=notes), spec=spec, status=status)


@pytest.mark.parametrize(
    ("rule", "written", "one", "what"),
    [
        (None, 0, None, "nothing"),
        (RULE, 3, None, "write"),
        (RULE, 3, shown(RULE, 3), "valid"),
        (RULE, 3, shown(RULE, 3, "valid"), "nothing"),
        (RULE, 3, shown(RULE, 3, "valid", judged=0), "valid"),
        (RULE, 3, shown(RULE, 3, "invalid"), "valid"),
        (RULE, 3, shown(RULE, 2, "valid"), "write"),
        (RULE, 3, shown(OTHER, 2, "valid"), "write"),
        (RULE, 3, shown(OTHER, 4), "nothing"),
        (RULE, 3, shown(OTHER, 3, "valid", judged=0), "edit"),
        (RULE, 3, shown(None, 3), "invalid"),
        (RULE, 3, shown(None, 3, "invalid"), "nothing"),
        (RULE, 3, shown(RULE, None), "write"),
        (RULE, 3, shown(OTHER, None), "edit"),
        (None, 0, shown(RULE, None), "edit"),
        (None, 0, shown(None, None), "invalid"),
        (None, 0, shown(RULE, 3), "remove"),
        (None, 0, shown(RULE, 9), "nothing"),
    ],
)
def test_what_is_to_be_done(rule: Rule | None, written: int, one: RuleObject | None, what: str) -> None:
    assert step(rule, Written(written), one, head=5).what == what


def test_an_object_that_is_gone_was_removed_if_it_was_the_newest() -> None:
    assert step(RULE, Written(3), None, 5, seen=3).what == "removed"
    assert step(RULE, Written(3), None, 5, seen=2).what == "write"
    assert step(None, Written(), None, 5, seen=3).what == "nothing"


def test_an_edit_keeps_age_and_id() -> None:
    spec = b'{"id":"else","destination":"reviews","route":{"backends":[{"tags":["v3"]}]}}'
    one = msgspec.structs.replace(shown(RULE, 3), spec=msgspec.Raw(spec))
    found = step(RULE, Written(3), one, 5)
    assert found.rule is not None
    assert (found.rule.id, found.rule.created) == ("a", RULE.created), "the annotation says which rule it is"
    fresh = msgspec.structs.replace(shown(RULE, None), spec=msgspec.Raw(spec))
    named = step(None, Written(), fresh, 5).rule
    assert named is not None
    assert named.id == "else"


def test_what_is_wrong_is_said_in_terms_of_the_object() -> None:
    found = step(None, Written(), shown(None, None), 5)
    assert "spec.destination" in found.message
    assert "$" not in found.message
