"""First match wins, and what can never be first costs nothing."""

import pytest

from amalgam8.routing.condition import ALWAYS
from amalgam8.routing.plan import HeadersEntry
from amalgam8.sidecar.envoy.choices import CHAIN_LIMIT, always, first_match, noted, on_match, picked
from amalgam8.sidecar.envoy.kinds import changed_headers
from tests.sidecar.envoy.support import Mesh, backends, service, when


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


def test_conditions_on_one_header_stand_behind_one_look_at_it() -> None:
    conditions = [when(cookie="a"), when(cookie="b", x="1"), when(cookie="c"), when(x="2"), ALWAYS]
    tree = first_match([(condition, lambda: on_match("x", noted(a="1"))) for condition in conditions])
    first, second = tree.matcher_list.matchers
    assert len(first.on_match.matcher.matcher_list.matchers) == 3
    assert not first.on_match.matcher.HasField("on_no_match")
    assert second.on_match.HasField("action")


async def test_where_none_of_them_holds_the_matching_goes_on_behind_them(mesh: Mesh) -> None:
    async with backends("one", "two", "three") as found:
        conditions = [
            (when(a="1"), "one"),
            (when(a="2", b="1"), "two"),
            (when(b="1"), "three"),
            (ALWAYS, "one"),
        ]
        peers = {backend.name: (backend.peer(),) for backend in found}
        await mesh.follow(service("svc", [(condition, {name: 1}) for condition, name in conditions], peers))
        for headers, name in (
            ({"a": "1", "b": "1"}, "one"),
            ({"a": "2", "b": "1"}, "two"),
            ({"a": "3", "b": "1"}, "three"),
            ({"b": "1"}, "three"),
            ({"a": "2"}, "one"),
            ({"a": "3"}, "one"),
        ):
            assert (await mesh.ask("/svc/", *headers.items())).call.name == name, headers


def test_entries_without_filters_need_no_place() -> None:
    assert picked((HeadersEntry(rule="h"),), lambda _: []) is None
    assert picked((), changed_headers) is None


def test_a_chain_has_an_end() -> None:
    with pytest.raises(ValueError, match=f"at most {CHAIN_LIMIT} are possible"):
        always([noted(a="1")] * (CHAIN_LIMIT + 1))
