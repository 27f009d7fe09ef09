"""Slots: a route has the filters that it needs, in their order, and a plain one has none."""

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2

from amalgam8.routing.plan import AccessEntry, HeadersEntry, LimitEntry, PlanLimit
from amalgam8.sidecar.envoy.chains import ON, SLOTS, slot, slotted
from amalgam8.sidecar.envoy.messages import ACCESS, BEFORE, BEHIND, FAULT, HEADERS, TRACE, Resource
from amalgam8.sidecar.envoy.routes import routes, second_routes, waiting_routes
from tests.sidecar.envoy.support import Mesh, backends, simple, when


def route(*places: str) -> route_components_pb2.Route:
    return route_components_pb2.Route(typed_per_filter_config=dict.fromkeys(places, ON))


def test_a_plain_route_has_no_filters() -> None:
    assert not slotted(route()).typed_per_filter_config


def test_a_filter_turns_its_slot_on() -> None:
    assert slotted(route(ACCESS)).typed_per_filter_config.keys() == {BEFORE, ACCESS}


@pytest.mark.parametrize("resource", [waiting_routes(), routes({}), second_routes({})])
def test_whatever_a_route_does_not_turn_on_is_off(resource: Resource) -> None:
    message = route_pb2.RouteConfiguration.FromString(resource.body)
    config = route_components_pb2.FilterConfig()
    for name, packed in message.typed_per_filter_config.items():
        assert packed.Unpack(config)
        assert config.disabled, name
    assert message.typed_per_filter_config.keys() == {place for places in SLOTS.values() for place in places}


def test_filters_of_one_version_count_for_its_route() -> None:
    found = route(HEADERS)
    for name, places in (("v1", [FAULT]), ("v2", [TRACE])):
        found.route.weighted_clusters.clusters.add(
            name=name, typed_per_filter_config=dict.fromkeys(places, ON)
        )
    assert slotted(found).typed_per_filter_config.keys() == {BEHIND, HEADERS}


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
