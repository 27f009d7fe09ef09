"""Conditions: what is left of a match for one caller, held against the match itself."""

from collections.abc import Mapping
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller
from amalgam8.model.rule import Block, Match, Source
from amalgam8.routing.condition import ALWAYS, Condition, condition, fits
from amalgam8.routing.decide import holds
from tests.routing import language
from tests.routing.interpreter import Interpreter

EVERY_REQUEST: list[dict[str, str]] = [
    {name: value for name, value in zip(("cookie", "x-user"), values, strict=True) if value is not None}
    for values in product((None, "1", "2", "12", "", "x"), repeat=2)
]

WEB = caller("web", ["v1"])
MINE, FOREIGN = Source("web"), Source("other")
A, B = {"A": "a"}, {"B": "b"}
CONJUNCTION_A, CONJUNCTION_B = (("a", "a"),), (("b", "b"),)


@given(language.matches, language.callers)
def test_a_condition_holds_where_its_match_does(match: Match | None, who: Caller) -> None:
    """Tried with every request that the vocabulary can make."""
    found = condition(match, who)
    interpreter = Interpreter([], who, {}, 0)
    for headers in EVERY_REQUEST:
        said = found is not None and holds(found, headers)
        assert said is interpreter.matches(match, headers), headers


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        (None, ALWAYS),
        (Match(MINE), ALWAYS),
        (Match(Source()), ALWAYS),
        (Match(Source("", ("v1",))), ALWAYS),
        (Match(FOREIGN), None),
        (Match(Source("web", ("v1", "v2"))), None),
        (Match(FOREIGN, A), None),
        (Match(None, A), Condition(CONJUNCTION_A)),
        (Match(None, {"A": "a", "B": "b"}), Condition((*CONJUNCTION_A, *CONJUNCTION_B))),
        (Match(None, A, (Block(MINE, B),)), Condition((*CONJUNCTION_A, *CONJUNCTION_B))),
        (Match(None, A, (Block(FOREIGN, B),)), None),
        (Match(any=(Block(None, A), Block(None, B))), Condition(any=((CONJUNCTION_A, CONJUNCTION_B),))),
        (Match(any=(Block(None, A), Block(FOREIGN, B))), Condition(any=((CONJUNCTION_A,),))),
        (Match(any=(Block(FOREIGN), Block(FOREIGN, B))), None),
        (Match(any=(Block(MINE), Block(None, B))), ALWAYS),
        (Match(None, A, any=(Block(None, A), Block(None, B))), Condition(CONJUNCTION_A)),
        (Match(none=(Block(None, A),)), Condition(none=(CONJUNCTION_A,))),
        (Match(none=(Block(MINE, A), Block(FOREIGN, B))), Condition(none=(CONJUNCTION_A,))),
        (Match(none=(Block(FOREIGN),)), ALWAYS),
        (Match(none=(Block(MINE),)), None),
        (Match(None, A, none=(Block(None, A),)), None),
        (Match(None, {"A": "a", "B": "b"}, none=(Block(None, A),)), None),
    ],
)
def test_what_is_left_of_a_match(match: Match | None, wanted: Condition | None) -> None:
    assert condition(match, WEB) == wanted


def test_the_condition_that_always_holds_is_one_object() -> None:
    assert condition(Match(MINE), WEB) is ALWAYS


names = st.sampled_from(["cookie", "x-user"])
conjunctions = st.lists(
    st.tuples(names, st.sampled_from(["1", "2", "^$"])), min_size=1, max_size=2, unique=True
).map(lambda found: tuple(sorted(found)))
some = st.lists(conjunctions, max_size=2, unique=True).map(lambda found: tuple(sorted(found)))
groups = st.lists(some.filter(bool), max_size=2, unique=True).map(lambda found: tuple(sorted(found)))
conditions = st.builds(Condition, st.just(()) | conjunctions, groups, some)


@given(conditions, conditions)
def test_both_holds_where_both_hold(one: Condition, other: Condition) -> None:
    both = one.both(other)
    assert both == other.both(one)
    for headers in EVERY_REQUEST:
        assert holds(both, headers) is (holds(one, headers) and holds(other, headers))


@given(conditions, conditions)
def test_what_implies_holds_nowhere_else(one: Condition, other: Condition) -> None:
    both = one.both(other)
    assert both.implies(one)
    assert both.implies(other)
    assert one.implies(ALWAYS)
    assert one.implies(one)
    if one.implies(other):
        assert both == one
        assert all(holds(other, headers) for headers in EVERY_REQUEST if holds(one, headers))


@pytest.mark.parametrize(
    ("headers", "held"),
    [
        ({}, False),
        ({"a": "xax"}, True),
        ({"a": "x"}, False),
        ({"b": "b"}, True),
        ({"a": "a", "c": "c"}, False),
    ],
)
def test_any_and_none(headers: Mapping[str, str], held: bool) -> None:
    found = Condition(any=((CONJUNCTION_A, CONJUNCTION_B),), none=((("c", "c"),),))
    assert holds(found, headers) is held


def test_no_source_is_every_caller() -> None:
    assert fits(None, WEB)
    assert fits(Source(), caller(""))
    assert not fits(Source("web"), caller("Web"))
