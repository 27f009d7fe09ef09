"""decide: what may happen to one request, by example and by property."""

import pytest
from hypothesis import given

from amalgam8.model.instance import Instance
from amalgam8.routing.decide import Decision, Refusal, Request, decide, holds
from amalgam8.routing.plan import (
    ALWAYS,
    Condition,
    DestinationPlan,
    FaultEntry,
    PlanAbort,
    PlanBackend,
    PlanDelay,
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
            RouteEntry("jason", (PlanBackend("reviews", ("v2",)),), JASON),
            RouteEntry("all", (PlanBackend("reviews", ("v1",)),)),
        )
    )
    assert [outcome.instances for outcome in decided(part, headers=COOKIE).outcomes] == [("reviews-2",)]
    assert [outcome.rules for outcome in decided(part, headers={"cookie": "user=anna"}).outcomes] == [
        ("all",)
    ]


def test_a_split_lists_each_share() -> None:
    backends = (PlanBackend("reviews", ("v1",), 1), PlanBackend("reviews", ("v9",), 3))
    outcomes = decided(DestinationPlan((RouteEntry("split", backends),))).outcomes
    assert [(outcome.probability, outcome.instances) for outcome in outcomes] == [
        (0.25, ("reviews-1",)),
        (0.75, ()),
    ]
    assert outcomes[1].refusal == Refusal("unavailable", "reviews")


def test_a_tagged_fault_strikes_its_version_only() -> None:
    fault = FaultEntry("f", delays=(PlanDelay(7.0, 0.5, ("v2",)),), aborts=(PlanAbort(503, 1.0, ("v2",)),))
    outcomes = decided(DestinationPlan(faults=(fault,))).outcomes
    struck = [outcome for outcome in outcomes if outcome.delays]
    assert [outcome.instances for outcome in struck] == [("reviews-2",)]
    assert (struck[0].delays, struck[0].aborts, struck[0].rules) == (((7.0, 0.5),), ((503, 1.0),), ("f",))
    assert all(outcome.rules == () for outcome in outcomes if outcome is not struck[0])


def test_the_first_matching_fault_hides_the_next_even_where_its_tags_miss() -> None:
    faults = (
        FaultEntry("first", JASON, delays=(PlanDelay(1.0, 1.0, ("v9",)),)),
        FaultEntry("second", delays=(PlanDelay(2.0),)),
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
