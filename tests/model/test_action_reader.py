"""Actions: every member, its limits, and what is refused."""

from typing import Any

import pytest

from amalgam8.model.action_reader import ACTIONS_LIMIT, RECORD_MEMBERS, ActionReader
from amalgam8.model.errors import InvalidInput, InvalidJson, InvalidRule
from amalgam8.model.rule import Abort, Action, Allow, Delay, Deny, Mirror, RateLimit, SetHeaders, Trace


def read(*actions: Any) -> tuple[Action, ...]:
    reader = ActionReader()
    found = reader.actions(list(actions), "$")
    reader.finish()
    return found


LIMIT = {"action": "rate_limit", "requests": 10}
MIRROR = {"action": "mirror", "tags": ["v2"]}

READ: list[tuple[dict[str, Any], Action]] = [
    ({"action": "delay", "duration": 3600}, Delay(3600)),
    ({"action": "delay", "duration": 0.001, "probability": 0.5, "tags": ["a"]}, Delay(0.001, 0.5, ("a",))),
    ({"action": "abort", "return_code": -1}, Abort(-1)),
    ({"action": "abort", "return_code": 599, "tags": []}, Abort(599)),
    ({"action": "trace"}, Trace()),
    ({"action": "trace", "log_key": "k", "log_value": "v", "tags": ["a"]}, Trace("k", "v", ("a",))),
    ({"action": "trace", "log_key": "gremlin_recipe_id"}, Trace("gremlin_recipe_id")),
    ({"action": "allow"}, Allow()),
    ({"action": "deny"}, Deny()),
    (LIMIT, RateLimit(10)),
    ({**LIMIT, "per": 0, "burst": 0, "key": "", "scope": ""}, RateLimit(10)),
    ({**LIMIT, "requests": 0.5, "per": 60, "burst": 5}, RateLimit(0.5, 60, 5)),
    ({**LIMIT, "key": "caller", "scope": "sidecar"}, RateLimit(10, key="caller")),
    ({**LIMIT, "key": "all"}, RateLimit(10)),
    ({**LIMIT, "scope": "fleet"}, RateLimit(10, scope="fleet")),
    ({**LIMIT, "key": "caller", "scope": "fleet"}, RateLimit(10, key="caller", scope="fleet")),
    ({**LIMIT, "key": "header:X-User"}, RateLimit(10, key="header:x-user")),
    (MIRROR, Mirror(("v2",))),
    ({**MIRROR, "percent": 0}, Mirror(("v2",))),
    ({**MIRROR, "percent": 0.5}, Mirror(("v2",), 0.5)),
    ({"action": "headers", "set": {"X-A": "b c"}}, SetHeaders({"X-A": "b c"})),
    ({"action": "headers", "remove": ["Cookie"]}, SetHeaders(remove=("Cookie",))),
    ({"action": "headers", "set": {"a": ""}, "remove": ["b"]}, SetHeaders({"a": ""}, ("b",))),
]

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"action": "delay", "duration": 3600.5}, "$[0].duration: must be above 0 and at most 3600 seconds"),
    ({"action": "abort", "return_code": -2}, "$[0].return_code: must be a status from 200 to 599, or -1"),
    ({"action": "abort", "return_code": 100}, "$[0].return_code"),
    ({"action": "trace", "probability": 0.5}, "$[0].probability: unknown member"),
    ({"action": "trace", "log_key": "a b"}, "$[0].log_key: must begin with a letter"),
    ({"action": "trace", "log_key": "a" * 65}, "$[0].log_key: must begin with a letter"),
    ({"action": "trace", "log_key": "status"}, "$[0].log_key: is a member that every access record has"),
    ({"action": "trace", "tags": ["a", "a"]}, "$[0].tags: names a tag twice"),
    ({"action": "allow", "tags": ["v1"]}, "$[0].tags: unknown member"),
    ({"action": "deny", "tags": ["v1"]}, "$[0].tags: unknown member"),
    ({"action": "rate_limit"}, "$[0].requests: is missing"),
    ({**LIMIT, "requests": 0}, "$[0].requests: must be above 0"),
    ({**LIMIT, "requests": 1_000_001}, "$[0].requests: must be above 0 and at most 1e+06"),
    ({**LIMIT, "per": -1}, "$[0].per: must be between 0 and 86400 seconds"),
    ({**LIMIT, "per": 86_401}, "$[0].per"),
    ({**LIMIT, "burst": -1}, "$[0].burst"),
    ({**LIMIT, "key": "user"}, "$[0].key: must be all, caller, or header: and the name of a header"),
    ({**LIMIT, "key": "header:"}, "$[0].key"),
    ({**LIMIT, "key": "header:a b"}, "$[0].key"),
    (
        {**LIMIT, "scope": "fleet", "key": "header:x-user"},
        "$[0].scope: fleet goes with the keys all and caller",
    ),
    ({**LIMIT, "scope": "world"}, "$[0].scope: must be one of sidecar, fleet"),
    ({**LIMIT, "tags": ["v1"]}, "$[0].tags: unknown member"),
    ({"action": "mirror"}, "$[0].tags: must name at least one tag"),
    ({"action": "mirror", "tags": []}, "$[0].tags: must name at least one tag"),
    ({**MIRROR, "percent": 101}, "$[0].percent: must be between 0 and 100"),
    ({**MIRROR, "probability": 0.5}, "$[0].probability: unknown member"),
    ({"action": "headers"}, "$[0]: neither sets nor removes"),
    ({"action": "headers", "set": {"a": "b"}, "tags": ["v1"]}, "$[0].tags: unknown member"),
    ({"action": "headers", "set": {"a b": "c"}}, "$[0].set.a b: 'a b' is no header name"),
    ({"action": "headers", "set": {":path": "/"}}, "$[0].set.:path: ':path' is no header name"),
    ({"action": "headers", "set": {"A": "x", "a": "y"}}, "$[0].set.a: is the same header as A"),
    ({"action": "headers", "set": {"Host": "x"}}, "$[0].set.Host: Host belongs to the transport"),
    ({"action": "headers", "remove": ["Content-Length"]}, "$[0].remove[0]: Content-Length belongs to"),
    ({"action": "headers", "set": {"X-A8-Reason": "x"}}, "$[0].set.X-A8-Reason"),
    ({"action": "headers", "remove": ["x-envoy-retry-on"]}, "$[0].remove[0]"),
    ({"action": "headers", "set": {"a": "b\r\nc: d"}}, "$[0].set.a: holds a control character"),
    ({"action": "headers", "set": {"a": "\x00"}}, "$[0].set.a: holds a control character"),
    ({"action": "headers", "set": {"A": "b"}, "remove": ["a"]}, "$[0]: both sets and removes a"),
    ({"action": "headers", "remove": [f"h{i}" for i in range(33)]}, "$[0]: 33 headers; at most 32"),
]

WRONG_TYPES: list[tuple[Any, str]] = [
    (7, "$[0]: expected an object"),
    ({"action": 7}, "$[0].action: expected text"),
    ({"action": "trace", "log_value": 7}, "$[0].log_value"),
    ({**LIMIT, "requests": "10"}, "$[0].requests"),
    ({**LIMIT, "per": False}, "$[0].per"),
    ({**LIMIT, "key": 7}, "$[0].key"),
    ({**MIRROR, "percent": False}, "$[0].percent"),
    ({"action": "headers", "set": ["a"]}, "$[0].set"),
    ({"action": "headers", "set": {"a": 7}}, "$[0].set.a"),
    ({"action": "headers", "remove": "a"}, "$[0].remove"),
]


@pytest.mark.parametrize(("action", "found"), READ)
def test_read(action: dict[str, Any], found: Action) -> None:
    assert read(action) == (found,)


@pytest.mark.parametrize(("action", "words"), REFUSED)
def test_refused(action: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRule) as caught:
        read(action)
    assert words in str(caught.value)


@pytest.mark.parametrize(("action", "words"), WRONG_TYPES)
def test_wrong_types(action: Any, words: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        read(action)
    assert words in str(caught.value)


@pytest.mark.parametrize("kind", ["", "Delay", "explode"])
def test_an_unknown_action_names_those_that_exist(kind: str) -> None:
    with pytest.raises(InvalidInput, match="must be one of delay, abort, trace, allow, deny, rate_limit"):
        read({"action": kind})


def test_several_actions_keep_their_order() -> None:
    assert read({"action": "deny"}, {"action": "allow"}, {"action": "trace"}) == (Deny(), Allow(), Trace())


def test_too_many_actions() -> None:
    with pytest.raises(InvalidRule, match=f"33 actions; at most {ACTIONS_LIMIT}"):
        read(*[{"action": "deny"}] * 33)


def test_a_trace_cannot_hide_a_member_of_the_record() -> None:
    for key in RECORD_MEMBERS:
        with pytest.raises(InvalidRule):
            read({"action": "trace", "log_key": key})
