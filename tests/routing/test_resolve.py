"""resolve: the Plan joined with the instances, by example and by property."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.instance import Address, Endpoint, Instance
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import (
    DEFAULT_POLICY,
    AccessEntry,
    DestinationPlan,
    FaultEntry,
    HeadersEntry,
    LimitEntry,
    MirrorEntry,
    Outer,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    PlanLimit,
    PlanMirror,
    PlanTrace,
    Policy,
    RouteEntry,
    TraceEntry,
)
from amalgam8.routing.resolve import (
    SHARES,
    Instances,
    Route,
    ServiceRouting,
    Target,
    mirror_target,
    outer_routes,
    resolve,
    services_used,
)

JASON = Condition((("cookie", "user=jason"),))


def one(service: str, port: int, *tags: str, kind: str = "http") -> Instance:
    value = f"10.0.0.1:{port}"
    return Instance(f"{service}-{port}", service, Endpoint(kind, value), 60, "UP", tags=tags)


def entry(
    rule: str, *backends: PlanBackend, match: Condition = ALWAYS, expires: float | None = None
) -> RouteEntry:
    return RouteEntry(rule=rule, backends=backends, match=match, expires=expires)


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
    fault = FaultEntry(rule="f1", delays=(PlanDelay(1.0, 1.0, ("v2",)),))
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
    fault = FaultEntry(rule="f1", aborts=(PlanAbort(503, 1.0, ("v2",)),))
    routing = only(DestinationPlan(faults=(fault,)), one("reviews", 1, "v2"), one("reviews", 2, "v2"))
    assert [piece.target for piece in routing.routes[0].slices] == [Target("reviews", ("v2",))]
    assert [
        piece.target
        for piece in only(DestinationPlan(faults=(fault,)), one("reviews", 1, "v1")).routes[0].slices
    ] == [Target("reviews")]


def test_entries_lapse_at_their_time() -> None:
    part = DestinationPlan(
        routes=(entry("r1", PlanBackend("reviews", ("v2",)), expires=20.0),),
        faults=(FaultEntry(rule="f1", delays=(PlanDelay(1.0),), expires=10.0),),
    )
    before, between, after = (only(part, one("reviews", 1), now=now) for now in (9.9, 10.0, 20.0))
    assert (before.lapses, between.lapses, after.lapses) == (10.0, 20.0, None)
    assert (len(before.faults), len(between.faults)) == (1, 0)
    assert [routing.routes[0].rule for routing in (before, between, after)] == ["r1", "r1", ""]


@pytest.mark.parametrize(
    "part",
    [
        DestinationPlan(access=(AccessEntry(rule="a", verdict="guard", expires=5.0),)),
        DestinationPlan(limits=(LimitEntry(rule="a", limits=(PlanLimit(1),), expires=5.0),)),
        DestinationPlan(headers=(HeadersEntry(rule="a", remove=("b",), expires=5.0),)),
        DestinationPlan(mirrors=(MirrorEntry(rule="a", mirrors=(PlanMirror(("v2",)),), expires=5.0),)),
        DestinationPlan(traces=(TraceEntry(rule="a", traces=(PlanTrace("k", "v", ("v2",)),), expires=5.0),)),
    ],
)
def test_every_kind_lapses(part: DestinationPlan) -> None:
    instances = (one("reviews", 1, "v1"), one("reviews", 2, "v2"))
    before, after = only(part, *instances, now=4.9), only(part, *instances, now=5.0)
    assert before.lapses == 5.0
    assert before != only(None, *instances)
    assert after == only(None, *instances)


def test_a_mirrors_target_is_there_even_where_nothing_carries_its_tags() -> None:
    part = DestinationPlan(
        mirrors=(MirrorEntry(rule="m", mirrors=(PlanMirror(("v2",)), PlanMirror(("v9",)))),)
    )
    routing = only(part, one("reviews", 1, "v1"), one("reviews", 2, "v2"))
    assert ids(routing, Target("reviews", ("v2",))) == ["reviews-2"]
    assert ids(routing, Target("reviews", ("v9",))) == []
    assert [piece.target for piece in routing.routes[0].slices] == [Target("reviews")]


def test_a_tagged_trace_cuts_as_a_fault_does() -> None:
    part = DestinationPlan(traces=(TraceEntry(rule="t", traces=(PlanTrace("k", "v", ("v2",)),)),))
    routing = only(part, one("reviews", 1, "v1"), one("reviews", 2, "v2"))
    assert {piece.target.tags for piece in routing.routes[0].slices} == {(), ("v2",)}


def test_backends_of_one_version_with_two_policies_are_two_targets() -> None:
    backends = (PlanBackend("reviews", ("v1",)), PlanBackend("reviews", ("v1",), policy=Policy("random")))
    routing = only(DestinationPlan(routes=(entry("r", *backends),)), one("reviews", 1, "v1"))
    names = [piece.target.name for piece in routing.routes[0].slices]
    assert len(set(names)) == 2
    assert [ids(routing, piece.target) for piece in routing.routes[0].slices] == [["reviews-1"]] * 2


def test_outer_routes_stand_beside_the_others_and_leave_the_default() -> None:
    outer = RouteEntry(rule="r", backends=(PlanBackend("reviews", ("v2",)),), outer=Outer((0, "", "r"), "/p"))
    routing = only(DestinationPlan(routes=(outer,)), one("reviews", 1, "v1"))
    assert [route.rule for route in routing.routes] == [""]
    assert [route.rule for route in routing.outers] == ["r"]


def test_outer_routes_of_all_services_are_ranked_together() -> None:
    def part(*orders: tuple[int, str, str]) -> DestinationPlan:
        return DestinationPlan(
            routes=tuple(
                RouteEntry(rule=order[2], backends=(PlanBackend("x"),), outer=Outer(order, "/p"))
                for order in orders
            )
        )

    plan = {
        "a": part((-1, "2", "a1"), (0, "1", "a2")),
        "b": part((-2, "9", "b1"), (-1, "1", "b2"), (0, "1", "b0")),
    }
    routing = resolve(plan, {}, 0.0)
    assert [(service.name, route.rule) for service, route in outer_routes(routing)] == [
        ("b", "b1"),
        ("b", "b2"),
        ("a", "a1"),
        ("a", "a2"),
        ("b", "b0"),
    ]


def moved(old: Route, new: Route) -> dict[tuple[int, int], int]:
    """How much of the hash range goes from one backend to another."""

    def owner(route: Route) -> list[int]:
        found: list[int] = []
        for piece in route.slices:
            found += [piece.backend] * (piece.weight // (SHARES // 1000))
        return found

    found: dict[tuple[int, int], int] = {}
    for before, after in zip(owner(old), owner(new), strict=True):
        if before != after:
            found[(before, after)] = found.get((before, after), 0) + 1
    return found


@pytest.mark.parametrize("faults", [(), (FaultEntry(rule="f", delays=(PlanDelay(1.0, 1, ("x",)),)),)])
def test_a_weight_moved_by_five_points_moves_only_those_users(faults: tuple[FaultEntry, ...]) -> None:
    """Also while a fault cuts the versions into slices."""
    instances = (
        *(one("reviews", 1, "v1"), one("reviews", 2, "v1", "x"), one("reviews", 3, "v2")),
        one("reviews", 4, "v2", "x"),
    )

    def split(weight: int) -> Route:
        backends = (PlanBackend("reviews", ("v2",), weight), PlanBackend("reviews", ("v1",), 100 - weight))
        return only(DestinationPlan(routes=(entry("r", *backends),), faults=faults), *instances).routes[0]

    assert moved(split(20), split(25)) == {(1, 0): 50}
    assert moved(split(20), split(20)) == {}


TAGS = st.lists(st.sampled_from(["v1", "v2", "a|b", "a&b", "%"]), max_size=2, unique=True).map(
    lambda tags: tuple(sorted(tags))
)
NAMES = st.sampled_from(["a", "b"])
CONDITIONS = st.sampled_from([ALWAYS, JASON])
RANDOM = Policy("random")
EXPIRES = st.sampled_from([None, 5.0, 15.0])
ROUTES = st.builds(
    RouteEntry,
    rule=st.sampled_from(["r1", "r2"]),
    backends=st.lists(
        st.builds(
            PlanBackend, NAMES, TAGS, st.integers(1, 10_000), st.sampled_from([DEFAULT_POLICY, RANDOM])
        ),
        min_size=1,
        max_size=4,
    ).map(tuple),
    match=CONDITIONS,
    expires=EXPIRES,
    outer=st.sampled_from([None, None, Outer((0, "", "r1"), "/p")]),
)
FAULTS = st.builds(
    FaultEntry,
    rule=st.just("f"),
    match=CONDITIONS,
    expires=EXPIRES,
    delays=st.lists(st.builds(PlanDelay, st.just(1.0), st.just(1), TAGS), max_size=2).map(tuple),
    aborts=st.lists(st.builds(PlanAbort, st.just(503), st.just(1), TAGS), max_size=2).map(tuple),
)
MIRRORS = st.builds(
    MirrorEntry,
    rule=st.just("m"),
    expires=EXPIRES,
    mirrors=st.lists(st.builds(PlanMirror, TAGS), min_size=1, max_size=2).map(tuple),
)
TRACES = st.builds(
    TraceEntry,
    rule=st.just("t"),
    expires=EXPIRES,
    traces=st.lists(st.builds(PlanTrace, st.just("k"), st.just(""), TAGS), min_size=1, max_size=2).map(tuple),
)


def some(entries: st.SearchStrategy[Any], count: int = 2) -> st.SearchStrategy[Any]:
    return st.lists(entries, max_size=count).map(tuple)


PARTS = st.builds(
    DestinationPlan, routes=some(ROUTES, 3), faults=some(FAULTS), mirrors=some(MIRRORS), traces=some(TRACES)
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
        used: set[Target] = set()
        for entry in routing.mirrors:
            used |= {mirror_target(name, mirror) for mirror in entry.mirrors}
        assert all(route.outer is None for route in routing.routes)
        assert all(route.outer is not None for route in routing.outers)
        for route in (*routing.routes, *routing.outers):
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
