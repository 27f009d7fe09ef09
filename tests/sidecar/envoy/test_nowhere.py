"""Routes that lead to no instance, through a real Envoy: the answer names what was asked for."""

from amalgam8.sidecar.envoy.messages import NAMESPACE
from amalgam8.sidecar.envoy.nowhere import NOWHERE, metadata, to_nowhere
from tests.sidecar.envoy.support import Mesh, backends, simple


def test_a_route_to_nowhere_has_a_status_and_no_target() -> None:
    route = to_nowhere("SERVICE_UNAVAILABLE")
    assert route.route.cluster == NOWHERE
    assert route.metadata.filter_metadata[NAMESPACE]["dst"] == "-"


def test_what_a_route_says_about_itself() -> None:
    found = metadata("a b", "rule-1").filter_metadata[NAMESPACE]
    assert dict(found) == {"key": "a%20b", "rule": "rule-1"}
    assert dict(metadata("plain", mirror="m").filter_metadata[NAMESPACE]) == {"mirror": "m"}
    assert metadata("plain") is None  # the service is the route's name, and metadata is dear


async def test_an_unknown_name_is_quoted_in_the_answer(mesh: Mesh) -> None:
    async with backends("one") as (one,):
        await mesh.follow(simple("svc", one.peer()))
        reply = await mesh.ask("/nobody/x")
        assert (reply.status, reply.headers["x-a8-reason"]) == (404, "unknown; service=nobody; rule=")
        assert reply.json["service"] == "nobody"
