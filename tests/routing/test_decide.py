"""decide: what may happen to one request, by example and by property."""

from typing import Any

import pytest
from hypothesis import given
from msgspec import structs

from amalgam8.model.caller import caller
from amalgam8.model.instance import Instance
from amalgam8.model.rule import Affinity
from amalgam8.model.rule_reader import read_list
from amalgam8.routing.compile import compile  # noqa: A004
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.decide import Copy, Decision, Refusal, Request, decide, holds, joined
from amalgam8.routing.plan import (
    DestinationPlan,
    FaultEntry,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    PlanLimit,
    RouteEntry,
)
from amalgam8.routing.resolve import resolve
from tests.routing.test_resolve import INSTANCES, JASON, PLANS, one

V1, V2, V3 = (one("reviews", port, f"v{port}") for port in (1, 2, 3))
ALL = {"reviews": (V1, V2, V3)}
COOKIE = {"Cookie": "lang=en; user=jason"}


def decided(
    part: DestinationPlan | None, path: str = "/reviews/1", headers: dict[str, str] | None = None
) -> Decision:
    plan = {"reviews": part} if part else {}
    return decide(resolve(plan, ALL, 0.0), Request(path, headers or {}))


@pytest.mark.parametrize(
    ("path", "service", "seen"),
    [
        ("/reviews/a/b?c=d/e", "reviews", "/a/b?c=d/e"),
        ("/reviews", "reviews", "/"),
        ("/reviews/", "reviews", "/"),
        ("/reviews?x", "reviews", "/?x"),
        ("/reviews//a", "reviews", "//a"),
        ("/reviews/%2Fa/../b", "reviews", "/%2Fa/../b"),
    ],
)
def test_the_first_segment_names_the_service(path: str, service: str, seen: str) -> None:
    decision = decided(None, path)
    assert (decision.service, decision.path, decision.refusal) == (service, seen, None)


@pytest.mark.parametrize("path", ["/", "", "//reviews", "/review", "/reviewsx", "/Reviews/", "/?reviews"])
def test_other_services_are_unknown(path: str) -> None:
    decision = decided(None, path)
    assert decision.refusal
    assert decision.refusal.kind == "unknown"
    assert decision.outcomes == ()


def test_without_rules_any_instance_may_be_chosen() -> None:
    (outcome,) = decided(None).outcomes
    assert (outcome.probability, outcome.rules) == (1.0, ())
    assert outcome.instances == ("reviews-1", "reviews-2", "reviews-3")


def test_a_known_service_without_instances_is_unavailable() -> None:
    decision = decide(resolve({"reviews": DestinationPlan()}, {}, 0.0), Request("/reviews"))
    assert [outcome.refusal for outcome in decision.outcomes] == [Refusal("unavailable", "reviews")]


def test_the_first_matching_route_decides() -> None:
    part = DestinationPlan(
        (
            RouteEntry(rule="jason", backends=(PlanBackend("reviews", ("v2",)),), match=JASON),
            RouteEntry(rule="all", backends=(PlanBackend("reviews", ("v1",)),)),
        )
    )
    assert [outcome.instances for outcome in decided(part, headers=COOKIE).outcomes] == [("reviews-2",)]
    assert [outcome.rules for outcome in decided(part, headers={"cookie": "user=anna"}).outcomes] == [
        ("all",)
    ]


def test_a_split_lists_each_share() -> None:
    backends = (PlanBackend("reviews", ("v1",), 1), PlanBackend("reviews", ("v9",), 3))
    outcomes = decided(DestinationPlan((RouteEntry(rule="split", backends=backends),))).outcomes
    assert [(outcome.probability, outcome.instances) for outcome in outcomes] == [
        (0.25, ("reviews-1",)),
        (0.75, ()),
    ]
    assert outcomes[1].refusal == Refusal("unavailable", "reviews", "split")


def test_a_tagged_fault_strikes_its_version_only() -> None:
    fault = FaultEntry(
        rule="f", delays=(PlanDelay(7.0, 0.5, ("v2",)),), aborts=(PlanAbort(503, 1.0, ("v2",)),)
    )
    outcomes = decided(DestinationPlan(faults=(fault,))).outcomes
    struck = [outcome for outcome in outcomes if outcome.delays]
    assert [outcome.instances for outcome in struck] == [("reviews-2",)]
    assert (struck[0].delays, struck[0].aborts, struck[0].rules) == (((7.0, 0.5),), ((503, 1.0),), ("f",))
    assert all(outcome.rules == () for outcome in outcomes if outcome is not struck[0])


def test_the_first_matching_fault_hides_the_next_even_where_its_tags_miss() -> None:
    faults = (
        FaultEntry(rule="first", match=JASON, delays=(PlanDelay(1.0, 1.0, ("v9",)),)),
        FaultEntry(rule="second", delays=(PlanDelay(2.0),)),
    )
    part = DestinationPlan(faults=faults)
    assert all(outcome.delays == () for outcome in decided(part, headers=COOKIE).outcomes)
    assert {outcome.delays for outcome in decided(part).outcomes} == {((2.0, 1.0),)}


@pytest.mark.parametrize(
    ("pattern", "value", "found"),
    [
        ("user=j", "x user=jason", True),
        ("^user=", "x user=", False),
        ("(?i)JASON", "jason", True),
        ("", "", True),
    ],
)
def test_patterns_are_searched(pattern: str, value: str, found: bool) -> None:
    assert holds(Condition((("cookie", pattern),)), {"cookie": value}) is found


def test_an_absent_header_matches_no_pattern() -> None:
    assert not holds(Condition((("cookie", ".*"),)), {})
    assert not holds(Condition((("a", "x"), ("b", "y"))), {"a": "x"})
    assert holds(ALWAYS, {})


def of_rules(
    *rules: dict[str, Any], headers: dict[str, str] | None = None, path: str = "/reviews/1"
) -> Decision:
    """What is decided under rules as they are written, for the caller ``web:v1``."""
    made = read_list({"rules": [{"destination": "reviews", **rule} for rule in rules]})
    part = compile([structs.replace(rule, created=str(age)) for age, rule in enumerate(made)], WEB)
    return decided(part, path, headers)


WEB = caller("web", ["v1"])
DENY, ALLOW = {"actions": [{"action": "deny"}]}, {"actions": [{"action": "allow"}]}
MINE, FOREIGN = {"source": {"name": "web"}}, {"source": {"name": "other"}}
BETA = {"headers": {"X-Group": "beta"}}


@pytest.mark.parametrize(
    ("rules", "refusing"),
    [
        ([{"id": "d", **DENY}], "d"),
        ([{"id": "d", **DENY, "match": FOREIGN}], None),
        ([{"id": "d", **DENY, "match": BETA}], None),
        ([{"id": "a", **ALLOW}], None),
        ([{"id": "a", **ALLOW, "match": FOREIGN}], "a"),
        ([{"id": "a", **ALLOW, "match": BETA}], "a"),
        ([{"id": "a", **ALLOW, "match": FOREIGN}, {"id": "b", **ALLOW, "match": MINE}], None),
        ([{"id": "a", **ALLOW, "priority": 9}, {"id": "d", **DENY}], "d"),
        ([{"id": "d", "actions": [{"action": "deny"}, {"action": "allow"}]}], "d"),
    ],
)
def test_access(rules: list[dict[str, Any]], refusing: str | None) -> None:
    refusal = of_rules(*rules).refusal
    assert refusal == (None if refusing is None else Refusal("denied", "reviews", refusing))


def test_a_refused_call_chooses_no_version() -> None:
    decision = of_rules({"id": "d", **DENY}, {"actions": [{"action": "rate_limit", "requests": 1}]})
    assert (decision.outcomes, decision.limits) == ((), ())


def test_each_kind_has_its_own_first_match() -> None:
    decision = of_rules(
        {"id": "t", "priority": 5, "actions": [{"action": "delay", "duration": 1}]},
        {"id": "h", "priority": 4, "actions": [{"action": "headers", "set": {"X-A": "1"}, "remove": ["b"]}]},
        {"id": "l", "priority": 3, "actions": [{"action": "rate_limit", "requests": 5, "key": "header:x"}]},
        {"id": "m", "priority": 2, "actions": [{"action": "mirror", "tags": ["v2"], "percent": 25}]},
        {"id": "k", "priority": 1, "actions": [{"action": "trace", "log_key": "k", "tags": ["v3"]}]},
        {"id": "n", "actions": [{"action": "headers", "set": {"X-B": "2"}}, {"action": "trace"}]},
    )
    assert decision.limits == (PlanLimit(5, header="x"),)
    assert (decision.set_headers, decision.remove_headers) == ((("x-a", "1"),), ("b",))
    assert decision.mirrors == (Copy(0.25, ("v2",), ("reviews-2",), "m"),)
    assert decision.rules == ("l", "h", "m")
    traces = {outcome.instances: (outcome.traces, outcome.rules) for outcome in decision.outcomes}
    assert traces[("reviews-3",)] == ((("k", ""),), ("t", "k"))
    assert traces[("reviews-1", "reviews-2")] == ((), ("t",))


def test_a_rule_that_matches_one_kind_does_not_hide_another() -> None:
    decision = of_rules(
        {"priority": 1, "actions": [{"action": "delay", "duration": 1}], "match": BETA},
        {"actions": [{"action": "delay", "duration": 2}]},
        headers={"x-group": "x"},
    )
    assert [outcome.delays for outcome in decision.outcomes] == [((2.0, 1),)]


def test_affinity_timeout_and_retries_are_told() -> None:
    route = {
        "affinity": {"cookie": "user"},
        "http_req_timeout": 2,
        "http_req_retries": 0,
        "backends": [{"tags": ["v1"], "weight": 0.5}, {"tags": ["v2"], "timeout": 9, "retries": 9}],
    }
    decision = of_rules({"route": route})
    assert decision.affinity == Affinity("", "user")
    assert [(outcome.timeout, outcome.retries, outcome.backend) for outcome in decision.outcomes] == [
        (2.0, 0, 0),
        (2.0, 0, 1),
    ]


@pytest.mark.parametrize("name", ["x-a8-user", "X-Envoy-Retry-On"])
def test_headers_of_the_mesh_are_not_seen(name: str) -> None:
    decision = of_rules({**DENY, "match": {"headers": {name: ""}}}, headers={name: "1"})
    assert decision.refusal is None


def test_a_header_that_came_twice_is_one_value() -> None:
    sent = [("X-A", "1"), ("cookie", "a=1"), ("x-a", "2"), ("Cookie", "b=2"), ("y", "")]
    assert joined(sent) == {"x-a": "1,2", "cookie": "a=1; b=2", "y": ""}


def test_an_encoded_name_is_an_address() -> None:
    routing = resolve({}, {"a b": (one("a b", 1),)}, 0.0)
    assert decide(routing, Request("/a%20b/x")).path == "/x"
    assert decide(routing, Request("/a b/x")).refusal == Refusal("unknown", "a b")


def test_a_uri_leads_to_its_rule_and_its_service() -> None:
    rules = (
        {
            "id": "u",
            "route": {"uri": {"prefix": "/api", "prefix_rewrite": "/v2"}, "backends": [{"tags": ["v2"]}]},
        },
        {"id": "d", **DENY, "match": BETA},
    )
    decision = of_rules(*rules, path="/api/x?q")
    assert (decision.service, decision.path) == ("reviews", "/v2/x?q")
    assert [outcome.instances for outcome in decision.outcomes] == [("reviews-2",)]
    assert of_rules(*rules, path="/api/x", headers={"X-Group": "beta"}).refusal == Refusal(
        "denied", "reviews", "d"
    )
    (plain,) = of_rules(*rules).outcomes
    assert plain.instances == ("reviews-1", "reviews-2", "reviews-3")


def test_a_destination_that_only_a_rule_names_is_known() -> None:
    (outcome,) = decide(resolve({"x": DestinationPlan()}, {}, 0.0), Request("/x")).outcomes
    assert outcome.refusal == Refusal("unavailable", "x")


def test_a_fault_strikes_a_share_without_instances_too() -> None:
    """The fault stands before the instance that is not there, for the tags that the backend asks for."""
    decision = of_rules(
        {"route": {"backends": [{"tags": ["v9"]}]}},
        {
            "actions": [
                {"action": "abort", "return_code": 500, "tags": ["v9"]},
                {"action": "delay", "duration": 1, "tags": ["v1"]},
            ]
        },
    )
    (outcome,) = decision.outcomes
    assert (outcome.aborts, outcome.delays, outcome.instances) == (((500, 1),), (), ())


@given(PLANS, INSTANCES)
def test_probabilities_add_up_and_versions_carry_their_tags(
    plan: dict[str, DestinationPlan], instances: dict[str, tuple[Instance, ...]]
) -> None:
    routing = resolve(plan, instances, 10.0)
    by_id = {instance.id: instance for found in instances.values() for instance in found}
    for name in ("a", "b"):
        for headers in ({}, COOKIE):
            decision = decide(routing, Request(f"/{name}/x", headers))
            if name not in routing:
                assert decision.refusal == Refusal("unknown", name)
                continue
            assert sum(outcome.probability for outcome in decision.outcomes) == pytest.approx(1.0)
            for outcome in decision.outcomes:
                assert (outcome.refusal is None) == bool(outcome.instances)
                assert all(set(outcome.tags) <= set(by_id[one].tags) for one in outcome.instances)
