"""Patterns as Envoy gets them mean what the rule language means: search."""

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.routing.condition import Condition
from amalgam8.sidecar.envoy.patterns import predicate, whole_value

ALPHABET = r"ab\QE.*|()[]^$-?i"


@given(st.text(ALPHABET, max_size=8), st.text("abQE.*|\\-i", max_size=8))
def test_the_whole_value_matches_where_the_pattern_is_found(pattern: str, value: str) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        return
    found = compiled.search(value) is not None
    assert (re2.fullmatch(whole_value(pattern), value, options) is not None) == found


@pytest.mark.parametrize("pattern", ["jason", "user=jason", "a b", "x-y_z/;,'\"", "ä"])
def test_plain_words_need_no_expression(pattern: str) -> None:
    found = predicate(Condition((("x-user", pattern),)))
    assert found is not None
    assert found.single_predicate.value_match.contains == pattern


def test_nothing_to_find_is_presence() -> None:
    found = predicate(Condition((("x-user", ""),)))
    assert found is not None
    assert found.single_predicate.value_match.safe_regex.regex == r"\C*"
    assert predicate(Condition()) is None
