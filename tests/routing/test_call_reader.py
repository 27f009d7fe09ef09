"""Calls as they are written: defaults, and what no proxy would let through."""

from typing import Any

import pytest

from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import InvalidInput
from amalgam8.routing.call_reader import CallReader
from amalgam8.routing.explain import Call


def read(**members: Any) -> tuple[Caller, Call]:
    reader = CallReader()
    found = reader.call(members, "$")
    reader.finish()
    return found


def test_little_is_needed() -> None:
    assert read(destination="reviews") == (Caller(), Call("reviews", "/"))
    assert read(path="/api/x?q=1") == (Caller(), Call("", "/api/x?q=1"))


def test_everything_is_read() -> None:
    found = read(
        source={"name": "web", "tags": ["b", "a"]},
        destination="reviews",
        path="?q=1",
        method="POST",
        headers={"Cookie": "user=ü"},
    )
    assert found == (caller("web", ["a", "b"]), Call("reviews", "?q=1", "POST", {"Cookie": "user=ü"}))


@pytest.mark.parametrize("path", ["/a", "/a?b", "", "?b"])
def test_paths_inside_a_destination(path: str) -> None:
    assert read(destination="reviews", path=path)[1].request().path == f"/reviews{path}"


@pytest.mark.parametrize("path", ["", "a", "?q", "/a#b", "/a b"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match=r"\$.path: must be"):
        read(path=path)


def test_a_name_is_encoded_as_the_proxy_wants_it() -> None:
    assert Call("a b/ü", "/x").request().path == "/a%20b%2F%C3%BC/x"
