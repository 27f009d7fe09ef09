"""What instances are spoken to: gRPC in HTTP/2, everything else in HTTP/1.1.

Without TLS nothing tells whether an app takes HTTP/2, and most do not. gRPC is never spoken in anything
else, so the request's content type decides, not the protocol of the caller. A cluster has one protocol:
each target has two, which share nothing but their instances, and every route stands twice.
"""

from collections.abc import Sequence
from typing import Any

from envoy.config.route.v3 import route_components_pb2

from amalgam8.sidecar.envoy.chains import slotted
from amalgam8.sidecar.envoy.choices import on_match

HTTP2 = "|h2"
"""Ends the name of the cluster for HTTP/2. Parts of a target's name begin with other signs."""


def target_name(cluster: str) -> str:
    """The target of which this is a cluster."""
    return cluster.removesuffix(HTTP2)


def both(name: str) -> tuple[str, str]:
    """The clusters of a target."""
    return name, name + HTTP2


def spoken(routes: Sequence[Any]) -> Any:
    """An OnMatch for Routes to clusters for HTTP/1.1: to those for HTTP/2 where the request is gRPC."""
    found = route_components_pb2.RouteList()
    for route in routes:
        grpc = found.routes.add()
        grpc.CopyFrom(slotted(route))
        grpc.match.grpc.SetInParent()
        action = grpc.route
        if action.cluster:
            action.cluster += HTTP2
        for share in action.weighted_clusters.clusters:
            share.name += HTTP2
        for mirror in action.request_mirror_policies:
            mirror.cluster += HTTP2
    found.routes.extend(routes)
    return on_match("routes", found)
