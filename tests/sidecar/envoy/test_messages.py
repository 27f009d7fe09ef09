"""Wire forms put together by hand are what protocol buffers read."""

from envoy.config.route.v3 import route_pb2
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.sidecar.envoy.messages import member, packed, resource, serialized


@given(st.text(max_size=300), st.lists(st.text(max_size=50), max_size=5))
def test_pieces_one_after_the_other_make_the_whole(name: str, removed: list[str]) -> None:
    whole = route_pb2.RouteConfiguration(name=name, request_headers_to_remove=removed)
    pieces = serialized(route_pb2.RouteConfiguration(name=name))
    pieces += b"".join(member(8, text.encode()) for text in removed)
    assert route_pb2.RouteConfiguration.FromString(pieces) == whole


def test_a_version_names_the_content() -> None:
    assert resource("a", b"x") == resource("a", b"x")
    assert resource("a", b"x").version != resource("a", b"y").version


def test_any_knows_its_type() -> None:
    found = packed(route_pb2.RouteConfiguration(name="x"))
    assert found.type_url == "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
    assert route_pb2.RouteConfiguration.FromString(found.value).name == "x"
