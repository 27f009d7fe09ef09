"""What instances are spoken to: gRPC in HTTP/2, everything else in HTTP/1.1.

Without TLS nothing tells whether an app takes HTTP/2, and most do not. gRPC is never spoken in anything
else, so the request's content type decides, not the protocol of the caller. A cluster has one protocol:
each target has two, which share nothing but their instances, and every route stands twice.
"""

from typing import Any

from envoy.config.route.v3 import route_components_pb2
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.sidecar.envoy.choices import nested, on_match
from amalgam8.sidecar.envoy.patterns import value

HTTP2 = "|h2"
"""Ends the name of the cluster for HTTP/2. Parts of a target's name begin with other signs."""

_GRPC = value("content-type", prefix="application/grpc")


def target_name(cluster: str) -> str:
    """The target of which this is a cluster."""
    return cluster.removesuffix(HTTP2)


def both(name: str) -> tuple[str, str]:
    """The clusters of a target."""
    return name, name + HTTP2


def spoken(message: Any) -> Any:
    """An OnMatch for a Route to clusters for HTTP/1.1: to those for HTTP/2 where the request is gRPC."""
    grpc = route_components_pb2.Route()
    grpc.CopyFrom(message)
    action = grpc.route
    if action.cluster:
        action.cluster += HTTP2
    for share in action.weighted_clusters.clusters:
        share.name += HTTP2
    for mirror in action.request_mirror_policies:
        mirror.cluster += HTTP2
    tree = matcher_pb2.Matcher(on_no_match=on_match("route", message))
    tree.matcher_list.matchers.add(predicate=_GRPC, on_match=on_match("route", grpc))
    return nested(tree)
