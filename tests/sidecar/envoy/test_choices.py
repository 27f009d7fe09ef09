"""First match wins, and what can never be first costs nothing."""

import pytest

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import HeadersEntry
from amalgam8.sidecar.envoy.choices import CHAIN_LIMIT, always, first_match, noted, on_match, picked
from amalgam8.sidecar.envoy.kinds import changed_headers
from tests.sidecar.envoy.support import when


def test_what_is_implied_by_an_earlier_choice_is_never_made() -> None:
    made: list[str] = []

    def make(name: str) -> object:
        made.append(name)
        return on_match("x", noted(name=name))

    choices = [
        (when(a="1"), lambda: make("a")),
        (when(a="1", b="1"), lambda: make("ab")),
        (ALWAYS, lambda: make("all")),
        (when(c="1"), lambda: make("c")),
    ]
    tree = first_match(choices)
    assert made == ["a", "all"]
    assert len(tree.matcher_list.matchers) == 1
    assert tree.HasField("on_no_match")


def test_entries_without_filters_need_no_place() -> None:
    assert picked((HeadersEntry(rule="h"),), lambda _: []) is None
    assert picked((), changed_headers) is None


def test_a_chain_has_an_end() -> None:
    with pytest.raises(ValueError, match=f"at most {CHAIN_LIMIT} are possible"):
        always([noted(a="1")] * (CHAIN_LIMIT + 1))
