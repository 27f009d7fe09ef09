"""Slots: a route has the filters that it needs, in their order, and a plain one has none."""

from envoy.config.route.v3 import route_components_pb2

from amalgam8.routing.plan import AccessEntry, HeadersEntry, LimitEntry, PlanLimit
from amalgam8.sidecar.envoy.chains import ON, SLOTS, slot, slotted
from amalgam8.sidecar.envoy.messages import ACCESS, BEFORE, BEHIND, FAULT, HEADERS, TRACE
from tests.sidecar.envoy.support import Mesh, backends, simple, when


def route(*places: str) -> route_components_pb2.Route:
    return route_components_pb2.Route(typed_per_filter_config=dict.fromkeys(places, ON))


def off(found: route_components_pb2.Route) -> set[str]:
    config = route_components_pb2.FilterConfig()
    names = set()
    for name, packed in found.typed_per_filter_config.items():
        assert packed.Unpack(config)
        names |= {name} if config.disabled else set()
    return names


def test_a_plain_route_has_no_filters() -> None:
    assert not slotted(route()).typed_per_filter_config


def test_a_filter_turns_its_slot_on_and_what_else_stands_there_off() -> None:
    found = slotted(route(ACCESS))
    assert found.typed_per_filter_config.keys() == {BEFORE, *SLOTS[BEFORE]}
    assert off(found) == set(SLOTS[BEFORE]) - {ACCESS}


def test_filters_of_one_version_count_for_its_route() -> None:
    found = route(HEADERS)
    for name, places in (("v1", [FAULT]), ("v2", [TRACE])):
        found.route.weighted_clusters.clusters.add(
            name=name, typed_per_filter_config=dict.fromkeys(places, ON)
        )
    assert off(slotted(found)) == set(SLOTS[BEHIND]) - {FAULT, TRACE, HEADERS}


def test_a_slot_names_its_places_in_order() -> None:
    for name, places in SLOTS.items():
        content = slot(name).value
        at = [content.index(place.encode()) for place in places]
        assert at == sorted(at)


async def test_a_call_meets_its_filters_in_their_order_on_both_sides_of_the_buckets(mesh: Mesh) -> None:
    denied = AccessEntry(rule="d", match=when(a="1"), verdict="deny")
    limited = LimitEntry(rule="l", limits=(PlanLimit(1, 60),))
    marked = HeadersEntry(rule="h", set=(("b", "2"),))
    async with backends("one") as (one,):
        await mesh.follow(
            simple("svc", one.peer(), access=(denied,), limits=(limited,), headers=(marked,)),
            simple("plain", one.peer()),
        )
        assert (await mesh.ask("/svc/", ("a", "1"))).status == 403  # and takes nothing from the bucket
        assert dict((await mesh.ask("/svc/")).call.headers)["b"] == "2"
        assert (await mesh.ask("/svc/")).status == 429
        assert (await mesh.ask("/svc/", ("a", "1"))).status == 403
        assert "b" not in dict((await mesh.ask("/plain/", ("a", "1"))).call.headers)
