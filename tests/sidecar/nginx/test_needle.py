"""A needle is in everything that its pattern is found in: by example, and over patterns at random."""

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.sidecar.nginx.needle import needle


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^(.*?;)?(user=jason)(;.*)?$", "user=jason"),
        (".*?user=jason", "user=jason"),
        (r"v\.1\.2", "v.1.2"),
        ("(abc)+d", "abc"),
        ("abcd*", "abc"),
        ("abc{0}def", "def"),
        ("(?P<name>abcd)e", "abcd"),
        ("abc|def", ""),
        ("x(abc|def)y", ""),
        ("(?i)abc", ""),
        ("(?i:abc)d", ""),
        ("a(bcd)?e", ""),
        ("", ""),
    ],
)
def test_what_is_looked_for_first(pattern: str, text: str) -> None:
    assert needle(pattern) == text


pieces = st.sampled_from(
    [
        *"abcAB.^$|()",
        "(?:",
        "(?i)",
        "(?i:",
        "(?P<n>",
        "*",
        "+",
        "?",
        "{0}",
        "{0,1}",
        "{2}",
        "[ab]",
        r"\.",
        r"\d",
        r"\Q",
        r"\E",
        "abc",
    ]
)


@given(
    st.lists(pieces, max_size=12).map("".join),
    st.lists(st.sampled_from([*"abcAB.1", "abc"]), max_size=12).map("".join),
)
def test_nothing_is_found_without_it(pattern: str, value: str) -> None:
    try:
        program = re2.compile(pattern)
    except re2.error:
        return
    if program.search(value):
        assert needle(pattern) in value
