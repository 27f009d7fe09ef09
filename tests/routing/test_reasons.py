"""Reasons: they are there where a match fails and nowhere else, and they say what was found."""

import pytest
from hypothesis import given, settings

from amalgam8.model.caller import Caller, caller
from amalgam8.model.rule import Match, Rule
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.condition import condition
from amalgam8.routing.decide import Request, holds, seen
from amalgam8.routing.reasons import reasons
from tests.routing import language


def match(document: object) -> Match | None:
    (rule,) = read_list({"rules": [{"destination": "d", "actions": [{"action": "deny"}], "match": document}]})
    return rule.match


def told(document: object, headers: dict[str, str] | None = None, who: str = "web") -> list[tuple[str, str]]:
    found = reasons(match(document), caller(*_split(who)), headers or {})
    return [(reason.path, reason.text) for reason in found]


def _split(who: str) -> tuple[str, list[str]]:
    name, _, tags = who.partition(":")
    return name, tags.split(",") if tags else []


@settings(max_examples=150)
@given(language.rules(), language.callers, language.requests)
def test_a_rule_has_reasons_exactly_where_it_does_not_match(
    rules: list[Rule], who: Caller, request: Request
) -> None:
    headers = seen(request.headers)
    for rule in rules:
        asked = condition(rule.match, who)
        matches = asked is not None and holds(asked, headers)
        assert (reasons(rule.match, who, headers) == ()) is matches


@pytest.mark.parametrize(
    ("document", "headers", "who", "wanted"),
    [
        (
            {"source": {"name": "api", "tags": ["v2", "x"]}},
            {},
            "web:v1",
            [
                ("$.match.source.name", "the caller is web, not api"),
                ("$.match.source.tags", "the caller lacks the tag v2, x; it has v1"),
            ],
        ),
        (
            {"source": {"name": "api"}},
            {},
            "",
            [("$.match.source.name", "the caller is a caller without a service, not api")],
        ),
        (
            {"headers": {"Cookie": "user=jason"}},
            {},
            "web",
            [("$.match.headers.Cookie", "the call has no header Cookie")],
        ),
        (
            {"headers": {"Cookie": "user=jason$"}},
            {"cookie": "user=bob"},
            "web",
            [
                (
                    "$.match.headers.Cookie",
                    "the header Cookie is 'user=bob', and 'user=jason$' is not found in it",
                )
            ],
        ),
        (
            {"any": [{"headers": {"A": "1"}}, {"source": {"name": "api"}}]},
            {},
            "web",
            [
                (
                    "$.match.any",
                    "no block of any holds: the call has no header A; the caller is web, not api",
                )
            ],
        ),
        (
            {"none": [{"headers": {"A": "1"}}, {"source": {"name": "web", "tags": ["v1"]}}]},
            {},
            "web:v1",
            [("$.match.none[1]", "source web:v1 holds, which none forbids")],
        ),
        (
            {"all": [{"headers": {"A": "1"}}, {"headers": {"B": "2"}}]},
            {"a": "1"},
            "web",
            [("$.match.all[1].headers.B", "the call has no header B")],
        ),
    ],
)
def test_a_reason_says_where_and_what(
    document: object, headers: dict[str, str], who: str, wanted: list[tuple[str, str]]
) -> None:
    assert told(document, headers, who) == wanted


def test_a_reason_has_its_parts_for_programs() -> None:
    (reason,) = reasons(
        match({"any": [{"headers": {"A": "^1$"}}, {"headers": {"B": "2"}}]}), caller("web"), {"a": "12"}
    )
    assert [(part.path, part.wanted, part.found) for part in reason.parts] == [
        ("$.match.any[0].headers.A", "^1$", "12"),
        ("$.match.any[1].headers.B", "2", None),
    ]


def test_a_long_value_is_cut_in_the_sentence() -> None:
    (reason,) = reasons(match({"headers": {"A": "1"}}), caller("web"), {"a": "x" * 5000})
    assert len(reason.text) < 300
    assert reason.found == "x" * 5000
