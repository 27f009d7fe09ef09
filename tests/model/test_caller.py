"""Callers: reading ``name:tag,tag``, and names that a proxy can address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.caller import Caller, caller, name_problem, parse_caller
from amalgam8.model.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reviews", Caller("reviews")),
        ("reviews:v1", Caller("reviews", ("v1",))),
        ("reviews:version=v1,v1", Caller("reviews", ("v1", "version=v1"))),
        (" reviews:b, a ,b", Caller("reviews", ("a", "b"))),
        ("reviews:", Caller("reviews")),
    ],
)
def test_reads_names_and_tags(text: str, expected: Caller) -> None:
    assert parse_caller(text) == expected


@pytest.mark.parametrize("text", ["", ":v1", "a b", "a/b", "a:,", "a:v1,,v2", "x" * 65, "a\x00b"])
def test_refuses_what_cannot_be_addressed(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_caller(text)


def test_a_name_of_64_bytes_passes_and_one_more_does_not() -> None:
    assert name_problem("é" * 32) is None
    assert name_problem("é" * 32 + "x") == "is longer than 64 bytes"


@given(
    st.text("abc.=-", min_size=1, max_size=9), st.lists(st.text("vx=1.", min_size=1, max_size=4), max_size=5)
)
def test_what_is_written_is_read_back(name: str, tags: list[str]) -> None:
    written = caller(name, tags)
    assert parse_caller(str(written)) == written
