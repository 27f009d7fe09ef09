"""The rule language: every case that the original accepted or refused, and what is decided otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import InvalidInput, InvalidJson, InvalidRule, NoRules, TooManyRules
from amalgam8.model.rule import Abort, Backend, Delay, Match, Rule, Source
from amalgam8.model.rule_reader import RULES_LIMIT, read_list, read_rules

V1 = {"tags": ["v1"]}
ROUTE: dict[str, Any] = {"destination": "d", "route": {"backends": [V1]}}
DELAY: dict[str, Any] = {"action": "delay", "duration": 1}
ABORT: dict[str, Any] = {"action": "abort", "return_code": 503}


def routed(*backends: dict[str, Any], **route: Any) -> dict[str, Any]:
    return {"destination": "d", "route": {"backends": list(backends), **route}}


def acted(*actions: Any) -> dict[str, Any]:
    return {"destination": "d", "actions": list(actions)}


def matched(match: Any) -> dict[str, Any]:
    return {**ROUTE, "match": match}


def read(*rules: Any) -> list[Rule]:
    return read_rules(json.dumps({"rules": rules}).encode())


ACCEPTED: dict[str, dict[str, Any]] = {
    "route": ROUTE,
    "rule tags twice": {**ROUTE, "tags": ["a", "a"]},
    "negative priority": {**ROUTE, "priority": -3},
    "null match": matched(None),
    "source without name": matched({"source": {"tags": ["v1"]}}),
    "source without tags": matched({"source": {"name": "s", "tags": []}}),
    "empty source": matched({"source": {}}),
    "source and empty headers": matched({"source": {"name": "s"}, "headers": {}}),
    "headers": matched({"headers": {"Cookie": "^(.*?;)?(user=jason)(;.*)?$"}}),
    "weight 0 is not set": routed({**V1, "weight": 0}),
    "weight 1": routed({**V1, "weight": 1}),
    "weights that make 1": routed({**V1, "weight": 0.25}, {"tags": ["v2"], "weight": 0.75}),
    "the rest for one without weight": routed({**V1, "weight": 0.25}, {"tags": ["v2"]}),
    "another name": routed({"name": "other", **V1}),
    "empty resilience": routed({**V1, "resilience": {}}),
    "empty lb_type": routed({**V1, "lb_type": ""}),
    "empty uri": routed(V1, uri={}),
    "timeouts and retries of 0 are not set": routed(V1, http_req_timeout=0, http_req_retries=0),
    "route and no actions": {**ROUTE, "actions": []},
    "actions and null route": {**acted(DELAY), "route": None},
    "delay": acted(DELAY),
    "part of a second": acted({**DELAY, "duration": 0.001}),
    "probability 0 is not set": acted({**DELAY, "probability": 0}),
    "probability 1": acted({**ABORT, "probability": 1}),
    "action tags": acted({**DELAY, "tags": ["v1", "x"]}),
    "empty action tags": acted({**DELAY, "tags": []}),
    "abort 200": acted({**ABORT, "return_code": 200}),
    "abort 599": acted({**ABORT, "return_code": 599}),
    "several actions": acted(DELAY, ABORT, DELAY),
    "expires": {**ROUTE, "expires": "2030-01-31T12:00:00Z"},
    "expires elsewhere": {**ROUTE, "expires": "2030-01-31T12:00:00.5+01:00"},
    "ttl": {**ROUTE, "ttl": 1.5},
    "ttl for ever": {**acted(DELAY), "ttl": 0},
    "description": {**ROUTE, "description": "why"},
    "what the server adds": {**ROUTE, "created": "x", "author": "y"},
    "a client's own id": {**ROUTE, "id": "bookinfo-default-route-details"},
}

REFUSED: dict[str, tuple[Any, str]] = {
    "no destination": ({"route": {"backends": [V1]}}, "$.rules[0].destination"),
    "null destination": ({**ROUTE, "destination": None}, "$.rules[0].destination"),
    "empty destination": ({**ROUTE, "destination": ""}, "$.rules[0].destination"),
    "destination with a slash": ({**ROUTE, "destination": "a/b"}, "$.rules[0].destination"),
    "destination with a blank": ({**ROUTE, "destination": "a b"}, "$.rules[0].destination"),
    "long destination": ({**ROUTE, "destination": "d" * 65}, "$.rules[0].destination"),
    "neither route nor actions": ({"destination": "d"}, "$.rules[0]: has neither"),
    "both": ({**ROUTE, "actions": [DELAY]}, "$.rules[0]: has both"),
    "actions alone and empty": (acted(), "$.rules[0]: has neither"),
    "no backends": ({"destination": "d", "route": {}}, "$.rules[0].route.backends"),
    "null backends": ({"destination": "d", "route": {"backends": None}}, "$.rules[0].route.backends"),
    "empty backends": (routed(), "$.rules[0].route.backends"),
    "backend without tags": (routed({"name": "x"}), "$.rules[0].route.backends[0].tags"),
    "backend with empty tags": (routed({"tags": []}), "$.rules[0].route.backends[0].tags"),
    "backend tag twice": (routed({"tags": ["a", "a"]}), "$.rules[0].route.backends[0].tags"),
    "empty tag": (routed({"tags": [""]}), "$.rules[0].route.backends[0].tags[0]"),
    "negative weight": (routed({**V1, "weight": -0.1}), "$.rules[0].route.backends[0].weight"),
    "weight above 1": (routed({**V1, "weight": 1.1}), "$.rules[0].route.backends[0].weight"),
    "weight too small": (routed({**V1, "weight": 1e-6}, V1), "$.rules[0].route.backends[0].weight"),
    "weights above 1": (
        routed({**V1, "weight": 0.6}, {**V1, "weight": 0.6}),
        "$.rules[0].route.backends: weights sum to 1.2",
    ),
    "weights below 1": (routed({**V1, "weight": 0.9999}), "$.rules[0].route.backends: weights sum to 0.9999"),
    "empty match": (matched({}), "$.rules[0].match"),
    "match of empty headers": (matched({"headers": {}}), "$.rules[0].match"),
    "match of empty older members": (matched({"all": []}), "$.rules[0].match"),
    "source name with a slash": (matched({"source": {"name": "a/b"}}), "$.rules[0].match.source.name"),
    "no header name": (matched({"headers": {"a b": "x"}}), "$.rules[0].match.headers.a b"),
    "a header twice": (matched({"headers": {"A": "x", "a": "y"}}), "$.rules[0].match.headers.a"),
    "look-ahead": (matched({"headers": {"A": "(?=x)"}}), "$.rules[0].match.headers.A: no RE2 pattern"),
    "back-reference": (matched({"headers": {"A": r"(a)\1"}}), "$.rules[0].match.headers.A: no RE2 pattern"),
    "open bracket": (matched({"headers": {"A": "[a"}}), "$.rules[0].match.headers.A: no RE2 pattern"),
    "star alone": (matched({"headers": {"A": "*"}}), "$.rules[0].match.headers.A: no RE2 pattern"),
    "a pattern that would explode": (
        matched({"headers": {"A": "((a{100}){100}){100}"}}),
        "$.rules[0].match.headers.A: no RE2 pattern",
    ),
    "long pattern": (matched({"headers": {"A": "a" * 1025}}), "$.rules[0].match.headers.A"),
    "delay without duration": (acted({"action": "delay"}), "$.rules[0].actions[0].duration"),
    "delay of 0": (acted({**DELAY, "duration": 0}), "$.rules[0].actions[0].duration"),
    "negative delay": (acted({**DELAY, "duration": -1}), "$.rules[0].actions[0].duration"),
    "endless delay": (acted({**DELAY, "duration": 3601}), "$.rules[0].actions[0].duration"),
    "abort without code": (acted({"action": "abort"}), "$.rules[0].actions[0].return_code"),
    "abort 0": (acted({**ABORT, "return_code": 0}), "$.rules[0].actions[0].return_code"),
    "abort -6": (acted({**ABORT, "return_code": -6}), "$.rules[0].actions[0].return_code"),
    "abort 600": (acted({**ABORT, "return_code": 600}), "$.rules[0].actions[0].return_code"),
    "abort below 200": (acted({**ABORT, "return_code": 199}), "$.rules[0].actions[0].return_code"),
    "negative probability": (acted({**DELAY, "probability": -0.1}), "$.rules[0].actions[0].probability"),
    "probability above 1": (acted({**DELAY, "probability": 1.01}), "$.rules[0].actions[0].probability"),
    "delay with code": (acted({**DELAY, "return_code": 500}), "$.rules[0].actions[0].return_code"),
    "abort with duration": (acted({**ABORT, "duration": 1}), "$.rules[0].actions[0].duration"),
    "unknown action": (acted({"action": "explode"}), "$.rules[0].actions[0].action"),
    "empty action": (acted({"action": ""}), "$.rules[0].actions[0].action"),
    "no action": (acted({}), "$.rules[0].actions[0].action"),
    "action tag twice": (acted({**DELAY, "tags": ["a", "a"]}), "$.rules[0].actions[0].tags"),
    "unknown member of a rule": ({**ROUTE, "priorty": 1}, "priorty: unknown member; did you mean priority?"),
    "unknown member of a backend": (
        routed({**V1, "wieght": 0.5}),
        "$.rules[0].route.backends[0].wieght: unknown member; did you mean weight?",
    ),
    "unknown member of a match": (matched({"header": {"A": "x"}}), "$.rules[0].match.header"),
    "unknown member of a source": (matched({"source": {"service": "x"}}), "$.rules[0].match.source.service"),
    "unknown member of a route": (routed(V1, lbtype="random"), "$.rules[0].route.lbtype"),
    "id with a slash": ({**ROUTE, "id": "a/b"}, "$.rules[0].id"),
    "long id": ({**ROUTE, "id": "a" * 129}, "$.rules[0].id"),
    "priority out of range": ({**ROUTE, "priority": 2**31}, "$.rules[0].priority"),
    "no time": ({**ROUTE, "expires": "tomorrow"}, "$.rules[0].expires"),
    "time without zone": ({**ROUTE, "expires": "2030-01-31T12:00:00"}, "$.rules[0].expires"),
    "date alone": ({**ROUTE, "expires": "2030-01-31"}, "$.rules[0].expires"),
    "negative ttl": ({**ROUTE, "ttl": -1}, "$.rules[0].ttl"),
    "endless ttl": ({**ROUTE, "ttl": 1e12}, "$.rules[0].ttl"),
    "ttl beside expires": ({**ROUTE, "ttl": 1, "expires": "2030-01-31T12:00:00Z"}, "$.rules[0].ttl"),
    "65 backends": (routed(*[V1] * 65), "$.rules[0].route.backends: 65 backends; at most 64"),
    "33 actions": (acted(*[DELAY] * 33), "$.rules[0].actions: 33 actions; at most 32"),
    "65 tags": ({**ROUTE, "tags": ["t"] * 65}, "$.rules[0].tags: 65 tags; at most 64"),
    "33 headers": (
        matched({"headers": {f"h{i}": "x" for i in range(33)}}),
        "$.rules[0].match.headers: 33 headers; at most 32",
    ),
}

NOT_YET: dict[str, tuple[dict[str, Any], str]] = {
    "trace": (acted({"action": "trace"}), "$.rules[0].actions[0].action"),
    "deny": (acted({"action": "deny"}), "$.rules[0].actions[0].action"),
    "allow": (acted({"action": "allow"}), "$.rules[0].actions[0].action"),
    "rate_limit": (acted({"action": "rate_limit", "requests": 1}), "$.rules[0].actions[0].action"),
    "mirror": (acted({"action": "mirror", "tags": ["v"]}), "$.rules[0].actions[0].action"),
    "headers": (acted({"action": "headers", "set": {"a": "b"}}), "$.rules[0].actions[0].action"),
    "abort -1": (acted({**ABORT, "return_code": -1}), "$.rules[0].actions[0].return_code"),
    "uri": (routed(V1, uri={"path": "/x"}), "$.rules[0].route.uri"),
    "timeout": (routed(V1, http_req_timeout=1), "$.rules[0].route.http_req_timeout"),
    "retries": (routed(V1, http_req_retries=1), "$.rules[0].route.http_req_retries"),
    "affinity": (routed(V1, affinity={"cookie": "c"}), "$.rules[0].route.affinity"),
    "lb_type": (routed({**V1, "lb_type": "random"}), "$.rules[0].route.backends[0].lb_type"),
    "resilience": (
        routed({**V1, "resilience": {"max_requests": 1}}),
        "$.rules[0].route.backends[0].resilience",
    ),
    "backend timeout": (routed({**V1, "timeout": 1}), "$.rules[0].route.backends[0].timeout"),
    "match.all": (matched({"all": [{"headers": {"a": "b"}}]}), "$.rules[0].match.all"),
}

WRONG_TYPES: dict[str, tuple[Any, str]] = {
    "rule": (7, "$.rules[0]: expected an object"),
    "null rule": (None, "$.rules[0]: expected an object"),
    "textual priority": ({**ROUTE, "priority": "1"}, "$.rules[0].priority"),
    "fractional priority": ({**ROUTE, "priority": 1.5}, "$.rules[0].priority"),
    "true priority": ({**ROUTE, "priority": True}, "$.rules[0].priority"),
    "destination": ({**ROUTE, "destination": 7}, "$.rules[0].destination"),
    "destination false": ({**ROUTE, "destination": False}, "$.rules[0].destination"),
    "id": ({**ROUTE, "id": 7}, "$.rules[0].id"),
    "tags": ({**ROUTE, "tags": "a"}, "$.rules[0].tags"),
    "tag": ({**ROUTE, "tags": [1]}, "$.rules[0].tags[0]"),
    "route": ({"destination": "d", "route": []}, "$.rules[0].route"),
    "backends": ({"destination": "d", "route": {"backends": {}}}, "$.rules[0].route.backends"),
    "backend": ({"destination": "d", "route": {"backends": ["v1"]}}, "$.rules[0].route.backends[0]"),
    "backend tags": (routed({"tags": "v1"}), "$.rules[0].route.backends[0].tags"),
    "weight": (routed({**V1, "weight": "0.5"}), "$.rules[0].route.backends[0].weight"),
    "actions": ({"destination": "d", "actions": {}}, "$.rules[0].actions"),
    "action": (acted("delay"), "$.rules[0].actions[0]"),
    "action word": (acted({"action": 7}), "$.rules[0].actions[0].action"),
    "duration": (acted({**DELAY, "duration": "1s"}), "$.rules[0].actions[0].duration"),
    "return_code": (acted({**ABORT, "return_code": 503.5}), "$.rules[0].actions[0].return_code"),
    "textual return_code": (acted({**ABORT, "return_code": "503"}), "$.rules[0].actions[0].return_code"),
    "probability": (acted({**DELAY, "probability": "1"}), "$.rules[0].actions[0].probability"),
    "match": (matched([]), "$.rules[0].match"),
    "source": (matched({"source": "s"}), "$.rules[0].match.source"),
    "headers": (matched({"headers": ["a"]}), "$.rules[0].match.headers"),
    "pattern": (matched({"headers": {"a": 7}}), "$.rules[0].match.headers.a"),
    "expires": ({**ROUTE, "expires": 1893456000}, "$.rules[0].expires"),
    "ttl": ({**ROUTE, "ttl": "1h"}, "$.rules[0].ttl"),
    "description": ({**ROUTE, "description": {}}, "$.rules[0].description"),
}


@pytest.mark.parametrize("rule", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(rule: dict[str, Any]) -> None:
    (found,) = read(rule)
    assert found.destination == "d"


@pytest.mark.parametrize(("rule", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(rule: Any, words: str) -> None:
    with pytest.raises(InvalidRule) as caught:
        read(rule)
    assert words in str(caught.value)


@pytest.mark.parametrize(("rule", "path"), NOT_YET.values(), ids=NOT_YET)
def test_known_and_not_built(rule: Any, path: str) -> None:
    with pytest.raises(InvalidRule) as caught:
        read(rule)
    assert path in str(caught.value)
    assert "is not supported yet" in str(caught.value)


@pytest.mark.parametrize(("rule", "path"), WRONG_TYPES.values(), ids=WRONG_TYPES)
def test_wrong_types_are_wrong_json(rule: Any, path: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        read(rule)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b"null", b'"x"', b'{"rules":7}', b"\xff", b'{"rules":[{]}', b"[" * 100_000],
)
def test_no_document(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        read_rules(body)


@pytest.mark.parametrize("body", [b"{}", b'{"rules":[]}', b'{"rules":null}'])
def test_no_rules(body: bytes) -> None:
    with pytest.raises(NoRules):
        read_rules(body)


def test_too_many_rules_names_the_limit() -> None:
    with pytest.raises(TooManyRules, match=str(RULES_LIMIT)):
        read(*[ROUTE] * (RULES_LIMIT + 1))


def test_all_problems_of_all_rules_are_told_at_once() -> None:
    with pytest.raises(InvalidRule) as caught:
        read({**ROUTE, "colour": 1}, ROUTE, {**ROUTE, "ttl": -1, "priority": 2**40})
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["$.rules[0].colour", "$.rules[2].priority", "$.rules[2].ttl"]


def test_an_id_twice_in_one_request() -> None:
    with pytest.raises(InvalidRule, match=r"\$\.rules\[1\]\.id: the same id as \$\.rules\[0\]"):
        read({**ROUTE, "id": "a"}, {**ROUTE, "id": "a"})


def test_unknown_member_beside_rules() -> None:
    with pytest.raises(InvalidRule, match=r"\$\.rule: unknown member; did you mean rules"):
        read_list({"rule": [], "rules": [ROUTE]})


def test_a_listing_is_taken_back() -> None:
    assert len(read_list({"rules": [ROUTE], "revision": 7})) == 1


def test_a_destination_for_rules_that_name_none() -> None:
    rules = read_list(
        {"rules": [{"route": {"backends": [V1]}}, {**ROUTE, "destination": ""}, ROUTE]}, destination="x"
    )
    assert [rule.destination for rule in rules] == ["x", "x", "d"]


def test_what_is_read() -> None:
    split, fault = read(
        {
            "id": "split",
            "priority": 3,
            "tags": ["canary"],
            "destination": "reviews",
            "match": {"source": {"name": "web", "tags": ["v1"]}, "headers": {"Cookie": "user=jason"}},
            "route": {"backends": [{"tags": ["v2"], "weight": 0.25}, {"name": "other", "tags": ["v1"]}]},
        },
        {
            "destination": "ratings",
            "actions": [{**DELAY, "duration": 7, "probability": 0.5, "tags": ["v1"]}, ABORT],
            "ttl": 60,
        },
    )
    assert (split.id, split.priority, split.tags) == ("split", 3, ("canary",))
    assert split.match == Match(Source("web", ("v1",)), {"Cookie": "user=jason"})
    assert split.route is not None
    assert split.route.backends == (Backend("", ("v2",), 0.25), Backend("other", ("v1",)))
    assert fault.actions == (Delay(7.0, 0.5, ("v1",)), Abort(503))
    assert (fault.id, fault.ttl, fault.match) == ("", 60.0, None)


texts = st.text("aé\0/ ", max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
MEMBERS = (
    "id",
    "priority",
    "destination",
    "tags",
    "match",
    "route",
    "actions",
    "expires",
    "ttl",
    "description",
)


@given(st.dictionaries(st.sampled_from(MEMBERS), json_values, max_size=6))
def test_whatever_comes_is_read_or_refused(members: dict[str, Any]) -> None:
    try:
        (rule,) = read_list({"rules": [members]})
    except InvalidInput as error:
        assert str(error)  # noqa: PT017 - either way is fine
    else:
        assert rule.destination == members["destination"]
