"""Incremental resolve against the whole one, and the identity of what did not change."""

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.instance import Endpoint, Instance
from amalgam8.routing.plan import DestinationPlan, FaultEntry, PlanBackend, PlanDelay, RouteEntry
from amalgam8.routing.resolve import Target, resolve
from amalgam8.sidecar.resolver import Resolver
from tests.wire import instance

A1, A2, B1 = instance("a", 1, "v1"), instance("a", 2, "v2"), instance("b", 3)


def to(service: str, *tags: str, expires: float | None = None) -> DestinationPlan:
    return DestinationPlan(
        routes=(RouteEntry(rule="r1", backends=(PlanBackend(service, tags),), expires=expires),)
    )


def test_a_change_of_one_service_keeps_the_others() -> None:
    resolver = Resolver()
    assert resolver.update({}, {"a": (A1,), "b": (B1,)}, 0.0)
    before = resolver.routing
    assert resolver.update({}, {"a": (A1, A2), "b": (B1,)}, 0.0)
    assert resolver.routing is not before
    # the group of b is another tuple here, but an equal one: the result must stay the same object
    assert resolver.routing["b"] is before["b"]
    assert resolver.routing["a"] is not before["a"]


def test_nothing_new_is_no_change() -> None:
    resolver = Resolver()
    parts, groups = {"a": to("a", "v1")}, {"a": (A1,)}
    assert resolver.update(parts, groups, 0.0)
    before = resolver.routing
    assert not resolver.update(parts, groups, 1.0)
    assert not resolver.update({"a": to("a", "v1")}, {"a": (A1,)}, 1.0)
    assert resolver.routing is before


def test_instances_of_another_service_count_where_a_backend_names_it() -> None:
    resolver = Resolver()
    resolver.update({"a": to("b")}, {"a": (A1,)}, 0.0)
    before = resolver.routing["a"]
    assert resolver.update({"a": to("b")}, {"a": (A1,), "b": (B1,)}, 0.0)
    assert resolver.routing["a"] != before
    assert resolver.update({}, {"a": (A1,), "b": (B1,)}, 0.0)
    after = resolver.routing["a"]
    resolver.update({}, {"a": (A1,)}, 0.0)
    assert resolver.routing["a"] is after
    assert "b" not in resolver.routing


def test_a_service_is_known_by_rule_or_by_instance() -> None:
    resolver = Resolver()
    resolver.update({"a": to("a")}, {}, 0.0)
    assert set(resolver.routing) == {"a"}
    resolver.update({}, {"a": (A1,)}, 0.0)
    assert set(resolver.routing) == {"a"}
    assert resolver.update({}, {}, 0.0)
    assert resolver.routing == {}


def test_a_rule_lapses_by_itself() -> None:
    resolver = Resolver()
    parts, groups = {"a": to("a", "v1", expires=50.0), "b": to("b")}, {"a": (A1, A2), "b": (B1,)}
    resolver.update(parts, groups, 0.0)
    assert resolver.next_lapse == 50.0
    assert not resolver.update(parts, groups, 49.9)
    before = resolver.routing["b"]
    assert resolver.update(parts, groups, 50.0)
    assert resolver.routing["a"].routes[0].rule == ""
    assert resolver.routing["b"] is before
    assert resolver.next_lapse is None


NAMES = st.sampled_from("abcd")
BACKENDS = st.builds(PlanBackend, NAMES, st.sampled_from([(), ("v1",), ("v2",)]), st.integers(1, 3))
EXPIRES = st.sampled_from([None, 5.0, 10.0])
PARTS = st.builds(
    DestinationPlan,
    st.lists(
        st.builds(RouteEntry, rule=st.just("r"), backends=st.tuples(BACKENDS), expires=EXPIRES), max_size=2
    ).map(tuple),
    st.lists(
        st.builds(
            FaultEntry, rule=st.just("f"), delays=st.just((PlanDelay(1.0, 1.0, ("v2",)),)), expires=EXPIRES
        ),
        max_size=1,
    ).map(tuple),
)
GROUPS = st.dictionaries(NAMES, st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["v1", "v2"]))))


def grouped(drawn: dict[str, set[tuple[int, str]]]) -> dict[str, tuple[Instance, ...]]:
    return {
        name: tuple(instance(name, port, tag) for port, tag in sorted(found)) for name, found in drawn.items()
    }


@given(st.lists(st.tuples(st.dictionaries(NAMES, PARTS), GROUPS, st.floats(0, 12)), max_size=6))
def test_step_by_step_comes_out_as_the_whole_does(
    steps: list[tuple[dict[str, DestinationPlan], dict[str, set[tuple[int, str]]], float]],
) -> None:
    resolver, now = Resolver(), 0.0
    for parts, drawn, elapsed in steps:
        now = max(now, elapsed)
        before, groups = resolver.routing, grouped(drawn)
        changed = resolver.update(parts, groups, now)
        assert resolver.routing == resolve(parts, groups, now)
        assert changed == (resolver.routing != before)
        assert changed == (resolver.routing is not before)
        for name, service in resolver.routing.items():
            if name in before and before[name] == service:
                assert before[name] is service


def test_an_instance_counts_once_its_name_has_addresses() -> None:
    named = Instance("n", "a", Endpoint("http", "db.example:80"), status="UP", tags=("v1",))
    groups = {"a": (A1, named), "b": (B1,)}
    resolver = Resolver()
    resolver.update({"b": to("a")}, groups, 0.0, {})
    assert [peer.id for peer in resolver.routing["a"].peers[Target("a")]] == [A1.id]
    before = resolver.routing
    assert not resolver.update({"b": to("a")}, groups, 0.0, {"other.example": ("10.0.0.1",)})
    assert resolver.update({"b": to("a")}, groups, 0.0, {"db.example": ("10.0.0.1",)})
    for service in ("a", "b"):
        assert resolver.routing[service] is not before[service]
        places = {peer.id: peer.places for peer in resolver.routing[service].peers[Target("a")]}
        assert places == {A1.id: (), "n": ("10.0.0.1",)}
    assert resolver.update({"b": to("a")}, groups, 0.0, {"db.example": ("10.0.0.2",)})
    assert ("10.0.0.2",) in {peer.places for peer in resolver.routing["a"].peers[Target("a")]}


def test_a_service_of_names_without_addresses_is_known_all_the_same() -> None:
    named = Instance("n", "a", Endpoint("http", "db.example:80"), status="UP")
    resolver = Resolver()
    resolver.update({}, {"a": (named,)}, 0.0, {})
    assert resolver.routing["a"].peers == {Target("a"): ()}


def test_pinned_tags_have_their_instances_whatever_the_rules_say() -> None:
    resolver = Resolver({"a": (("v2",), ())})
    resolver.update({"a": to("a", "v1")}, {"a": (A1, A2)}, 0.0)
    peers = resolver.routing["a"].peers
    assert [peer.id for peer in peers[Target("a", ("v2",))]] == [A2.id]
    assert len(peers[Target("a")]) == 2
