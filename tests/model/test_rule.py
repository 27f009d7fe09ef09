"""Rules as nouns: their order, their JSON, their times."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.rule import (
    Abort,
    Action,
    Affinity,
    Allow,
    Backend,
    Block,
    Delay,
    Deny,
    Match,
    Mirror,
    RateLimit,
    Resilience,
    Route,
    Rule,
    SetHeaders,
    Source,
    Trace,
    Uri,
    in_order,
    rfc3339,
    timestamp,
)


def rule(identity: str, priority: int = 0, created: str = "2030-01-01T00:00:00.000000Z") -> Rule:
    return Rule(identity, priority, "reviews", route=Route((Backend(tags=("v1",)),)), created=created)


def test_higher_priority_comes_first_then_age_then_id() -> None:
    rules = [
        rule("b", 0, rfc3339(2)),
        rule("a", 0, rfc3339(2)),
        rule("old", 0, rfc3339(1)),
        rule("low", -1, rfc3339(0)),
        rule("high", 7, rfc3339(3)),
    ]
    assert [found.id for found in in_order(rules)] == ["high", "old", "a", "b", "low"]


@given(st.permutations([rule(str(i), i % 3, rfc3339(i % 2)) for i in range(8)]))
def test_the_order_is_total(rules: list[Rule]) -> None:
    assert in_order(rules) == in_order(reversed(rules))


def test_priority_is_always_written_and_empty_members_never() -> None:
    assert msgspec.json.decode(msgspec.json.encode(rule("a"))) == {
        "id": "a",
        "priority": 0,
        "destination": "reviews",
        "route": {"backends": [{"tags": ["v1"]}]},
        "created": "2030-01-01T00:00:00.000000Z",
    }


def test_json_and_back() -> None:
    full = Rule(
        "x",
        3,
        "ratings",
        ("t",),
        Match(Source("reviews", ("v2",)), {"Cookie": "a"}),
        actions=(Delay(7.0, 0.5, ("v1",)),),
        expires=rfc3339(9),
        description="why",
        created=rfc3339(1),
    )
    assert msgspec.json.decode(msgspec.json.encode(full), type=Rule) == full
    assert full.has_fault
    assert full.expires_at == 9.0


ACTIONS = (
    Delay(1),
    Abort(-1),
    Trace("a", "b", ("v1",)),
    Allow(),
    Deny(),
    RateLimit(5, 2, 1, "header:x"),
    Mirror(("v2",), 10),
    SetHeaders({"a": "b"}, ("c",)),
)


def test_every_action_goes_to_json_and_back() -> None:
    full = Rule("x", 0, "d", actions=ACTIONS)
    encoded = msgspec.json.encode(full)
    assert msgspec.json.decode(encoded, type=Rule) == full
    assert [action["action"] for action in msgspec.json.decode(encoded)["actions"]] == [
        *("delay", "abort", "trace", "allow", "deny", "rate_limit", "mirror", "headers")
    ]


def test_defaults_are_left_out_of_json() -> None:
    actions = (RateLimit(5), Mirror(("v2",)), Trace(), Allow())
    route = Route((Backend(tags=("v1",), resilience=Resilience(max_requests=1)),), Uri(path="/a"))
    assert msgspec.to_builtins(Rule("x", destination="d", route=route, actions=actions)) == {
        "id": "x",
        "priority": 0,
        "destination": "d",
        "route": {
            "backends": ({"tags": ("v1",), "resilience": {"max_requests": 1}},),
            "uri": {"path": "/a"},
        },
        "actions": (
            {"action": "rate_limit", "requests": 5},
            {"action": "mirror", "tags": ("v2",)},
            {"action": "trace"},
            {"action": "allow"},
        ),
    }


def test_a_whole_route_to_json_and_back() -> None:
    backend = Backend("b", ("v1",), 0.5, "random", Resilience(1, 2, 3, 4, 5, 6.5, 7.5), 1.5, 0)
    route = Route((backend,), Uri("", "/p", "/r"), 2.5, 0, Affinity("", "user"))
    full = Rule("x", destination="d", route=route)
    assert msgspec.json.decode(msgspec.json.encode(full), type=Rule) == full


@pytest.mark.parametrize("action", ACTIONS)
def test_delays_and_aborts_are_faults(action: Action) -> None:
    assert Rule("x", actions=(Deny(), action)).has_fault is isinstance(action, (Delay, Abort))


def test_all_sources_of_a_match() -> None:
    web, old = Source("web"), Source("", ("old",))
    block, bare = Block(old), Block(None, {"a": "b"})
    assert list(Match(web, {}, (bare,), (block, bare), (block,)).sources()) == [web, old, old]
    assert list(Match(None, {"a": "b"}).sources()) == []


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000))
def test_times_are_exact_to_a_microsecond_and_sort_as_text(micros: int) -> None:
    text = rfc3339(micros / 1e6)
    assert round(timestamp(text) * 1e6) == micros
    assert rfc3339((micros + 1) / 1e6) > text


@pytest.mark.parametrize("text", ["", "tomorrow", "2030-01-01T00:00:00", "2030-13-01T00:00:00Z"])
def test_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        timestamp(text)
