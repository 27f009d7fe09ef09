"""How a change is shown."""

import msgspec

from amalgam8.controller.book import Change
from amalgam8.controller.difference import entry, steps, told
from tests.controller.rules import route

CHANGE = Change(
    7,
    "2030-01-01T00:00:00Z",
    "apply",
    (route("b", created="1"), route("c")),
    (route("a", "ratings"), route("b", version="v2", created="1", priority=4, author="eve")),
    "request",
    "ann",
    "because",
    "2030-01-01T00:01:00Z",
    (3,),
)


def test_an_entry_names_the_rules() -> None:
    assert msgspec.to_builtins(entry(CHANGE)) == {
        "revision": 7,
        "at": "2030-01-01T00:00:00Z",
        "cause": "apply",
        "author": "ann",
        "comment": "because",
        "request_id": "request",
        "created": ("a",),
        "updated": ("b",),
        "removed": ("c",),
        "about": (3,),
        "confirm_by": "2030-01-01T00:01:00Z",
    }


def test_steps_stand_in_the_order_of_ids_with_the_rules_themselves() -> None:
    found = steps(CHANGE)
    assert [(step.id, step.change, step.destination) for step in found] == [
        ("a", "create", "ratings"),
        ("b", "update", "reviews"),
        ("c", "remove", "reviews"),
    ]
    assert [(step.before is None, step.after is None) for step in found] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_members_that_differ_are_named_and_a_rules_author_is_none() -> None:
    assert steps(CHANGE)[1].members == ("priority", "route")


def test_told_is_the_entry_and_the_steps() -> None:
    found = msgspec.to_builtins(told(CHANGE))
    difference = found.pop("difference")
    assert found == msgspec.to_builtins(entry(CHANGE))
    assert [step["id"] for step in difference] == ["a", "b", "c"]
    assert "before" not in difference[0]


def test_an_empty_change_has_no_steps() -> None:
    assert steps(Change(1, "", "remove")) == ()
