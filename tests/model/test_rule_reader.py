"""The rule language: every case that the original accepted or refused, and what is decided otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import InvalidInput, InvalidJson, InvalidRule, NoRules, TooManyRules
from amalgam8.model.rule import (
    Abort,
    Affinity,
    Backend,
    Block,
    Delay,
    Match,
    Resilience,
    Route,
    Rule,
    Source,
    Uri,
)
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
    "timeouts and retries": routed(V1, http_req_timeout=0.25, http_req_retries=25),
    "older timeouts and retries": routed({**V1, "timeout": 3600, "retries": 0}),
    "lb_type": routed({**V1, "lb_type": "least_request"}),
    "another lb_type": routed({**V1, "lb_type": "random"}),
    "resilience": routed({**V1, "resilience": {"max_requests": 1, "sleep_window": 0.5}}),
    "resilience of zeros": routed({**V1, "resilience": {"max_connections": 0, "detection_interval": 0}}),
    "a path": routed(V1, uri={"path": "/a%2Fb;c=d,e"}),
    "a prefix": routed(V1, uri={"prefix": "/", "prefix_rewrite": "/x/"}),
    "affinity by header": routed(V1, affinity={"header": "X-User"}),
    "affinity by cookie": routed(V1, affinity={"cookie": "user"}),
    "empty affinity": routed(V1, affinity={}),
    "match.all alone": matched({"all": [{"source": {"name": "s"}}]}),
    "match.any alone": matched({"any": [{"headers": {"a": "b"}}, {"source": {"tags": ["v1"]}}]}),
    "match.none alone": matched({"none": [{"source": {"name": "s"}, "headers": {"a": "b"}}]}),
    "all of match": matched(
        {
            "source": {"name": "s"},
            "headers": {"a": "b"},
            "all": [{"headers": {"c": "d"}}],
            "any": [{"headers": {"e": "f"}}],
            "none": [{"headers": {"g": "h"}}],
        }
    ),
    "null blocks": matched({"headers": {"a": "b"}, "all": None, "any": None, "none": None}),
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
    "match of empty blocks": (matched({"all": []}), "$.rules[0].match.all: is empty"),
    "match of only unknown members": (matched({"some": []}), "$.rules[0].match.some"),
    "an empty block": (matched({"any": [{}]}), "$.rules[0].match.any[0]: holds no condition"),
    "a block of empty headers": (matched({"none": [{"headers": {}}]}), "$.rules[0].match.none[0]"),
    "blocks in a block": (matched({"any": [{"all": []}]}), "$.rules[0].match.any[0].all: unknown member"),
    "a block's pattern": (
        matched({"all": [{"headers": {"a": "("}}]}),
        "$.rules[0].match.all[0].headers.a: no RE2 pattern",
    ),
    "17 blocks": (
        matched({"none": [{"headers": {"a": "b"}}] * 17}),
        "$.rules[0].match.none: 17 blocks; at most 16",
    ),
    "negative timeout": (routed(V1, http_req_timeout=-1), "$.rules[0].route.http_req_timeout"),
    "endless timeout": (routed(V1, http_req_timeout=3601), "between 0 and 3600 seconds"),
    "negative retries": (routed(V1, http_req_retries=-1), "$.rules[0].route.http_req_retries"),
    "26 retries": (routed(V1, http_req_retries=26), "$.rules[0].route.http_req_retries: must be between 0"),
    "negative older timeout": (routed({**V1, "timeout": -1}), "$.rules[0].route.backends[0].timeout"),
    "negative older retries": (routed({**V1, "retries": -1}), "$.rules[0].route.backends[0].retries"),
    "unknown lb_type": (
        routed({**V1, "lb_type": "ring"}),
        "$.rules[0].route.backends[0].lb_type: must be one of round_robin, least_request, random",
    ),
    "negative resilience": (
        routed({**V1, "resilience": {"max_requests": -1}}),
        "$.rules[0].route.backends[0].resilience.max_requests",
    ),
    "negative sleep": (
        routed({**V1, "resilience": {"sleep_window": -0.1}}),
        "$.rules[0].route.backends[0].resilience.sleep_window",
    ),
    "unknown resilience": (
        routed({**V1, "resilience": {"max_request": 1}}),
        "max_request: unknown member; did you mean max_requests?",
    ),
    "path and prefix": (routed(V1, uri={"path": "/a", "prefix": "/b"}), "$.rules[0].route.uri: gives both"),
    "a rewrite alone": (routed(V1, uri={"prefix_rewrite": "/"}), "$.rules[0].route.uri: rewrites"),
    "a path without a slash": (routed(V1, uri={"path": "a"}), "$.rules[0].route.uri.path"),
    "a path with a query": (routed(V1, uri={"prefix": "/a?b"}), "$.rules[0].route.uri.prefix"),
    "a path with a blank": (routed(V1, uri={"path": "/a b"}), "$.rules[0].route.uri.path"),
    "unknown member of uri": (routed(V1, uri={"suffix": "/"}), "$.rules[0].route.uri.suffix"),
    "two affinities": (routed(V1, affinity={"header": "a", "cookie": "b"}), "$.rules[0].route.affinity"),
    "affinity to nothing": (routed(V1, affinity={"header": ""}), "$.rules[0].route.affinity"),
    "affinity to no name": (routed(V1, affinity={"cookie": "a b"}), "$.rules[0].route.affinity.cookie"),
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
    "retries": (routed(V1, http_req_retries=1.5), "$.rules[0].route.http_req_retries"),
    "textual timeout": (routed(V1, http_req_timeout="1s"), "$.rules[0].route.http_req_timeout"),
    "fractional errors": (
        routed({**V1, "resilience": {"consecutive_errors": 1.5}}),
        "$.rules[0].route.backends[0].resilience.consecutive_errors",
    ),
    "textual resilience": (routed({**V1, "resilience": "x"}), "$.rules[0].route.backends[0].resilience"),
    "lb_type": (routed({**V1, "lb_type": 1}), "$.rules[0].route.backends[0].lb_type"),
    "uri": (routed(V1, uri="/x"), "$.rules[0].route.uri"),
    "affinity": (routed(V1, affinity="user"), "$.rules[0].route.affinity"),
    "match.all": (matched({"all": {"headers": {"a": "b"}}}), "$.rules[0].match.all"),
    "match.any[0]": (matched({"any": ["a"]}), "$.rules[0].match.any[0]"),
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


def test_what_is_read_of_a_route() -> None:
    (rule,) = read(
        routed(
            {**V1, "lb_type": "random", "resilience": {"max_requests": 3}, "timeout": 2, "retries": 0},
            uri={"prefix": "/api", "prefix_rewrite": "/"},
            http_req_timeout=1.5,
            http_req_retries=2,
            affinity={"header": "X-User"},
        )
    )
    assert rule.route == Route(
        (Backend("", ("v1",), 0, "random", Resilience(max_requests=3), 2, 0),),
        Uri("", "/api", "/"),
        1.5,
        2,
        Affinity("x-user"),
    )


def test_empty_members_are_not_set() -> None:
    (rule,) = read(routed({**V1, "resilience": {}, "lb_type": ""}, uri={}, affinity={}, http_req_timeout=0))
    assert rule.route == Route((Backend(tags=("v1",)),))


def test_no_retry_is_not_the_default() -> None:
    none, default = read(routed(V1, http_req_retries=0), routed(V1))
    assert none.route is not None
    assert default.route is not None
    assert (none.route.http_req_retries, default.route.http_req_retries) == (0, None)


def test_what_is_read_of_a_match() -> None:
    block = {"source": {"name": "web", "tags": ["v1"]}, "headers": {"A": "x"}}
    (rule,) = read(matched({"all": [block], "any": [{"headers": {"b": "y"}}], "none": [block, block]}))
    found = Block(Source("web", ("v1",)), {"A": "x"})
    assert rule.match == Match(all=(found,), any=(Block(None, {"b": "y"}),), none=(found, found))


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
