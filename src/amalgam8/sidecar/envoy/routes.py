"""The RouteConfigurations of both passes, put together from the branches of the services.

In the tree of first segments the longest key that a path begins with is looked at alone, and that is the
path's own segment if it is there at all; the entry then asks whether the segment ends where the key does.
Pieces are joined as bytes: a service that did not change costs nothing.
"""

from collections.abc import Iterable, Mapping

from envoy.config.route.v3 import route_pb2
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.addressing import named_hosts
from amalgam8.sidecar.envoy.attempts import host_message
from amalgam8.sidecar.envoy.chains import ALL_OFF
from amalgam8.sidecar.envoy.choices import on_match
from amalgam8.sidecar.envoy.messages import (
    MAIN,
    NEXT_HEADER,
    SECOND,
    Resource,
    entry,
    member,
    resource,
    serialized,
)
from amalgam8.sidecar.envoy.nowhere import to_nowhere
from amalgam8.sidecar.envoy.patterns import header_input
from amalgam8.sidecar.envoy.ways import OUTER_ORDER, Branch


def routes(parts: Mapping[str, Branch], own_service: str = "") -> Resource:
    """The main RouteConfiguration, put together from the services' branches.

    The Host of the sidecar's own service is no address.
    """
    entries = b"".join(parts[name].body for name in sorted(parts))
    outers = sorted(outer for part in parts.values() for outer in part.outers)
    named = named_hosts((name for name in parts if parts[name].host), own_service)
    hosts = [parts[named[host]].host for host in sorted(named)]
    return resource(MAIN, _configuration(entries, outers, hosts, "NOT_FOUND"))


def waiting_routes() -> Resource:
    """What answers before anything is known: every service is unavailable."""
    return resource(MAIN, _configuration(b"", (), (), "INTERNAL_SERVER_ERROR"))


def second_routes(passes: Mapping[str, bytes]) -> Resource:
    """Routes of the second pass by the header that names them."""
    entries = b"".join(member(1, entry(name, passes[name])) for name in sorted(passes))
    host = serialized(host_message(SECOND, ["*"]))
    if entries:
        match_input = {"name": "pass", "typed_config": header_input(NEXT_HEADER)}
        tree = serialized(matcher_pb2.Matcher.MatcherTree(input=match_input)) + member(2, entries)
        host += member(21, member(2, tree))
    around = route_pb2.RouteConfiguration(name=SECOND, typed_per_filter_config=ALL_OFF)
    return resource(SECOND, serialized(around) + member(2, host))


def _configuration(
    entries: bytes,
    outers: Iterable[tuple[OUTER_ORDER, bytes]],
    hosts: Iterable[bytes],
    otherwise: str,
) -> bytes:
    """Serialised RouteConfiguration around the serialised parts."""
    matcher = member(3, serialized(on_match("route", to_nowhere(otherwise))))
    if entries:
        match_input = {"name": "path", "typed_config": header_input(":path")}
        tree = serialized(matcher_pb2.Matcher.MatcherTree(input=match_input)) + member(3, entries)
        matcher += member(2, tree)
    if rows := b"".join(member(1, row) for _, row in outers):
        matcher = member(1, rows) + member(3, member(1, matcher))
    host = serialized(host_message(MAIN, ["*"])) + member(21, matcher)
    around = route_pb2.RouteConfiguration(
        name=MAIN, ignore_port_in_host_matching=True, typed_per_filter_config=ALL_OFF
    )
    return serialized(around) + b"".join(member(2, each) for each in (*hosts, host))
