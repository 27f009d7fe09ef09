"""resolve: the Plan joined with the instances, by example and by property."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.instance import Address, Endpoint, Instance
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
from amalgam8.routing.resolve import SHARES, Instances, ServiceRouting, Target, resolve, services_used

JASON = Condition((("cookie", "user=jason"),))


def one(service: str, port: int, *tags: str, kind: str = "http") -> Instance:
    value = f"10.0.0.1:{port}"
    return Instance(f"{service}-{port}", service, Endpoint(kind, value), 60, "UP", tags=tags)


def entry(
    rule: str, *backends: PlanBackend, match: Condition = ALWAYS, expires: float | None = None
) -> RouteEntry:
    return RouteEntry(rule, backends, match, expires)


def only(part: DestinationPlan | None, *instances: Instance, now: float = 0.0) -> ServiceRouting:
    groups: dict[str, tuple[Instance, ...]] = {}
    for instance in instances:
        groups[instance.service_name] = (*groups.get(instance.service_name, ()), instance)
    return resolve({"reviews": part} if part else {}, groups, now)["reviews"]


def ids(routing: ServiceRouting, target: Target) -> list[str]:
    return [peer.id for peer in routing.peers[target]]


def test_without_rules_all_instances_take_calls() -> None:
    routing = only(None, one("reviews", 2), one("reviews", 1, "v1"))
    (route,) = routing.routes
    (piece,) = route.slices
    assert (route.match, route.rule, piece.weight) == (ALWAYS, "", SHARES)
    assert ids(routing, piece.target) == ["reviews-1", "reviews-2"]
    assert piece.target.name == "reviews"


def test_a_rule_for_one_user_leaves_the_others_alone() -> None:
    part = DestinationPlan((entry("r1", PlanBackend("reviews", ("v2",)), match=JASON),))
    routing = only(part, one("reviews", 1, "v1"), one("reviews", 2, "v2"))
    first, default = routing.routes
    assert (first.rule, first.match, ids(routing, first.slices[0].target)) == ("r1", JASON, ["reviews-2"])
    assert (default.rule, default.match) == ("", ALWAYS)
    assert ids(routing, default.slices[0].target) == ["reviews-1", "reviews-2"]


def test_an_unconditional_rule_is_the_default() -> None:
    part = DestinationPlan((entry("r1", PlanBackend("reviews", ("v2",))),))
    assert [route.rule for route in only(part, one("reviews", 1)).routes] == ["r1"]


def test_weights_are_shares() -> None:
    backends = (PlanBackend("reviews", ("v1",), 1), PlanBackend("reviews", ("v3",), 3))
    routing = only(DestinationPlan((entry("r1", *backends),)), one("reviews", 1, "v1"))
    assert [(piece.target.tags, piece.weight, piece.backend) for piece in routing.routes[0].slices] == [
        (("v1",), SHARES // 4, 0),
        (("v3",), SHARES * 3 // 4, 1),
    ]
    assert ids(routing, routing.routes[0].slices[1].target) == []  # its share is refused, not given away


def test_a_backend_may_be_another_service() -> None:
    part = DestinationPlan((entry("r1", PlanBackend("canary")),))
    routing = only(part, one("reviews", 1), one("canary", 9))
    assert ids(routing, routing.routes[0].slices[0].target) == ["canary-9"]
    assert services_used("reviews", part) == {"reviews", "canary"}
    assert services_used("reviews", None) == {"reviews"}


def test_known_is_what_has_an_instance_or_is_a_destination() -> None:
    assert set(resolve({"a": DestinationPlan()}, {"b": (one("b", 1),), "c": ()}, 0.0)) == {"a", "b"}


def test_udp_instances_and_unreadable_ones_take_no_calls() -> None:
    routing = only(None, one("reviews", 1, kind="udp"), one("reviews", 70000), one("reviews", 2, kind="tcp"))
    assert [peer.address for peers in routing.peers.values() for peer in peers] == [Address("10.0.0.1", 2)]


def test_a_tagged_fault_cuts_the_default_backend() -> None:
    fault = FaultEntry("f1", delays=(PlanDelay(1.0, 1.0, ("v2",)),))
    routing = only(
        DestinationPlan(faults=(fault,)), *(one("reviews", port, f"v{port}") for port in (1, 2, 3))
    )
    slices = {piece.target.tags: piece for piece in routing.routes[0].slices}
    assert sum(piece.weight for piece in slices.values()) == SHARES
    assert slices["v2",].weight == pytest.approx(SHARES / 3, abs=1)
    assert ids(routing, slices["v2",].target) == ["reviews-2"]
    assert slices[()].target.lacking == (("v2",),)
    assert {piece.backend for piece in slices.values()} == {0}


def test_a_fault_that_cuts_nothing_keeps_the_plain_name() -> None:
    fault = FaultEntry("f1", aborts=(PlanAbort(503, 1.0, ("v2",)),))
    routing = only(DestinationPlan(faults=(fault,)), one("reviews", 1, "v2"), one("reviews", 2, "v2"))
    assert [piece.target for piece in routing.routes[0].slices] == [Target("reviews", ("v2",))]
    assert [
        piece.target
        for piece in only(DestinationPlan(faults=(fault,)), one("reviews", 1, "v1")).routes[0].slices
    ] == [Target("reviews")]


def test_entries_lapse_at_their_time() -> None:
    part = DestinationPlan(
        (entry("r1", PlanBackend("reviews", ("v2",)), expires=20.0),),
        (FaultEntry("f1", delays=(PlanDelay(1.0),), expires=10.0),),
    )
    before, between, after = (only(part, one("reviews", 1), now=now) for now in (9.9, 10.0, 20.0))
    assert (before.lapses, between.lapses, after.lapses) == (10.0, 20.0, None)
    assert (len(before.faults), len(between.faults)) == (1, 0)
    assert [routing.routes[0].rule for routing in (before, between, after)] == ["r1", "r1", ""]


TAGS = st.lists(st.sampled_from(["v1", "v2", "a|b", "a&b", "%"]), max_size=2, unique=True).map(
    lambda tags: tuple(sorted(tags))
)
NAMES = st.sampled_from(["a", "b"])
CONDITIONS = st.sampled_from([ALWAYS, JASON])
EXPIRES = st.sampled_from([None, 5.0, 15.0])
ROUTES = st.builds(
    RouteEntry,
    st.sampled_from(["r1", "r2"]),
    st.lists(st.builds(PlanBackend, NAMES, TAGS, st.integers(1, 10_000)), min_size=1, max_size=4).map(tuple),
    CONDITIONS,
    EXPIRES,
)
FAULTS = st.builds(
    FaultEntry,
    st.just("f"),
    CONDITIONS,
    st.lists(st.builds(PlanDelay, st.just(1.0), st.just(1.0), TAGS), max_size=2).map(tuple),
    st.lists(st.builds(PlanAbort, st.just(503), st.just(1.0), TAGS), max_size=2).map(tuple),
    EXPIRES,
)
PARTS = st.builds(
    DestinationPlan, st.lists(ROUTES, max_size=3).map(tuple), st.lists(FAULTS, max_size=2).map(tuple)
)
PLANS = st.dictionaries(NAMES, PARTS)
INSTANCES = st.dictionaries(
    NAMES, st.lists(st.tuples(st.integers(1, 9), TAGS), max_size=5, unique_by=lambda drawn: drawn[0])
).map(
    lambda drawn: {
        name: tuple(one(name, port, *tags) for port, tags in found) for name, found in drawn.items()
    }
)


@given(PLANS, INSTANCES)
def test_every_reference_resolves_and_weights_make_the_whole(
    plan: dict[str, DestinationPlan], instances: dict[str, tuple[Instance, ...]]
) -> None:
    for name, routing in resolve(plan, instances, 10.0).items():
        assert routing.name == name
        assert routing.routes[-1].match == ALWAYS or any(route.match == ALWAYS for route in routing.routes)
        used = set()
        for route in routing.routes:
            assert sum(piece.weight for piece in route.slices) == SHARES
            assert all(piece.weight >= 0 for piece in route.slices)
            positions = [piece.backend for piece in route.slices]
            assert positions == sorted(positions)
            used |= {piece.target for piece in route.slices}
        assert used == set(routing.peers)
        for target, peers in routing.peers.items():
            for peer in peers:
                assert set(target.tags) <= set(peer.tags)
                assert not any(set(tags) <= set(peer.tags) for tags in target.lacking)
            assert list(peers) == sorted(peers)


@given(PLANS, INSTANCES)
def test_the_order_of_the_input_does_not_matter(
    plan: dict[str, DestinationPlan], instances: dict[str, tuple[Instance, ...]]
) -> None:
    mixed = {name: tuple(reversed(found)) for name, found in reversed(instances.items())}
    again = {name: plan[name] for name in reversed(plan)}
    assert list(resolve(plan, instances, 10.0).items()) == list(resolve(again, mixed, 10.0).items())


@given(PLANS, INSTANCES)
def test_no_two_targets_share_a_name(plan: dict[str, DestinationPlan], instances: Instances) -> None:
    targets = {target for routing in resolve(plan, instances, 10.0).values() for target in routing.peers}
    assert len({target.name for target in targets}) == len(targets)


@given(PLANS, INSTANCES)
def test_a_backends_slices_are_its_instances_each_once(
    plan: dict[str, DestinationPlan], instances: dict[str, tuple[Instance, ...]]
) -> None:
    """However faults cut it, a backend keeps its share, and each of its instances an equal part of that."""
    for name, routing in resolve(plan, instances, 10.0).items():
        part = plan.get(name, DestinationPlan())
        entries = {(entry.rule, entry.match, entry.backends) for entry in part.routes}
        for route in routing.routes:
            found = [
                backends for rule, match, backends in entries if (rule, match) == (route.rule, route.match)
            ]
            if len(found) != 1:
                continue
            total = sum(backend.weight for backend in found[0])
            for position, backend in enumerate(found[0]):
                pieces = [piece for piece in route.slices if piece.backend == position]
                peers = [peer.id for piece in pieces for peer in routing.peers[piece.target]]
                wanted = [
                    instance.id
                    for instance in instances.get(backend.service, ())
                    if set(backend.tags) <= set(instance.tags)
                ]
                assert sorted(peers) == sorted(wanted)
                share = Fraction(backend.weight, total) * SHARES
                assert abs(sum(piece.weight for piece in pieces) - share) <= 1
