"""Declared sets: what is created, replaced, removed and left alone."""

from typing import Any

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.declare import declare
from amalgam8.model.errors import InvalidRule, RuleElsewhere
from amalgam8.model.rule import Rule, rfc3339
from tests.controller.rules import NOON, fault, route, write


def made(*rules: Rule) -> Rulebook:
    return apply(Rulebook(), rulebook.create(Rulebook(), rules, write()))


def words(change: Change | None) -> dict[str, list[str]]:
    assert change is not None
    before, after = ({rule.id for rule in rules} for rules in (change.before, change.after))
    return {
        "create": sorted(after - before),
        "update": sorted(after & before),
        "remove": sorted(before - after),
    }


def test_creates_updates_and_removes_as_one_revision() -> None:
    book = made(route("same"), route("other"), route("gone"))
    change = declare(book, [route("same"), route("other", version="v2"), route("new")], (), write(NOON + 9))
    assert words(change) == {"create": ["new"], "update": ["other"], "remove": ["gone"]}
    assert change is not None
    after = apply(book, change)
    assert (after.revision, change.cause) == (2, "apply")
    assert after.rules["same"] is book.rules["same"]
    assert after.rules["other"].created == book.rules["other"].created


def test_without_pruning_nothing_is_removed() -> None:
    book = made(route("a"), route("b"))
    assert words(declare(book, [route("a", version="v2")], (), write(), prune=False)) == {
        "create": [],
        "update": ["a"],
        "remove": [],
    }


def test_declaring_again_changes_nothing() -> None:
    rules = [route("a", ttl=60.0), fault("f"), fault("g", ttl=0.0), fault("h", expires=rfc3339(NOON + 99))]
    change = declare(Rulebook(), rules, (), write())
    assert change is not None
    assert declare(apply(Rulebook(), change), rules, (), write(NOON + 30)) is None


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ({}, {"ttl": 60.0}),
        ({"ttl": 60.0}, {}),
        ({"ttl": 60.0}, {"expires": rfc3339(NOON + 61)}),
        ({}, {"priority": 1}),
        ({}, {"description": "why"}),
        ({}, {"tags": ("t",)}),
    ],
)
def test_what_makes_a_rule_another_one(stored: dict[str, Any], given: dict[str, Any]) -> None:
    book = made(route("a", **stored))
    assert words(declare(book, [route("a", **given)], (), write()))["update"] == ["a"]


def test_a_fault_for_ever_is_not_one_for_an_hour() -> None:
    assert words(declare(made(fault("f")), [fault("f", ttl=0.0)], (), write()))["update"] == ["f"]
    assert words(declare(made(fault("f", ttl=0.0)), [fault("f")], (), write()))["update"] == ["f"]


def test_a_labelled_subset_leaves_the_others_alone() -> None:
    book = made(route("mine", tags=("team-a",)), route("old", tags=("team-a", "x")), route("theirs"))
    change = declare(book, [route("mine", version="v2", tags=("team-a",))], ["team-a"], write())
    assert words(change) == {"create": [], "update": ["mine"], "remove": ["old"]}


def test_an_empty_set_removes_all() -> None:
    assert words(declare(made(route("a")), [], (), write()))["remove"] == ["a"]
    assert declare(Rulebook(), [], (), write()) is None


def test_every_rule_needs_an_id_and_the_tags() -> None:
    with pytest.raises(InvalidRule) as caught:
        declare(Rulebook(), [route(""), route("b", tags=("t", "u"))], ["t", "u"], write())
    assert [problem.path for problem in caught.value.problems] == [
        "$.rules[0].id",
        "$.rules[0].tags",
        "$.rules[0].tags",
    ]


def test_an_id_outside_of_the_subset_is_refused() -> None:
    with pytest.raises(RuleElsewhere, match="theirs belongs to a rule without the tag mine"):
        declare(made(route("theirs")), [route("theirs", tags=("mine",))], ["mine"], write())


def test_an_end_that_has_passed_is_refused() -> None:
    with pytest.raises(InvalidRule, match="has passed"):
        declare(Rulebook(), [route("a", expires=rfc3339(NOON - 1))], (), write())
