"""Clusters and their endpoints: one cluster for each target.

Clusters differ by name only, so that a rule or an instance that comes or goes changes endpoints and
routes, and never a cluster with open connections. An instance that refuses connections is left out for
some seconds; what it answers never is a reason. When all are left out, all are tried.
"""

import contextlib
import socket
from collections.abc import Iterable
from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from amalgam8.routing.resolve import Peer
from amalgam8.sidecar.envoy.listener import ADS, BUFFER_BYTES
from amalgam8.sidecar.envoy.messages import Resource, packed, resource, serialized

CONNECT_TIMEOUT = timedelta(seconds=1)
UPSTREAM_IDLE = timedelta(seconds=4)
"""Below the 5 s after which common servers close an idle connection, so that we close it first."""

CALLS_LIMIT = 10_000
"""Connections, waiting calls and calls under way to one target; above it calls are refused."""

RETRIES_LIMIT = 1000
LEFT_OUT = timedelta(seconds=3)
LEFT_OUT_LONGEST = timedelta(seconds=10)
FAILURES_IN_A_ROW = 2

NO_TLS = "https endpoints are not supported yet; instance {} gets no calls"
NO_NAMES = "endpoints with a host name are not supported yet; instance {} gets no calls"
LOCAL = {"localhost": "127.0.0.1"}
"""The one name that needs no name service."""

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_OFF = {"value": 0}


class Clusters:
    """Renders clusters from one template."""

    def __init__(self) -> None:
        self._template = _template()

    def cluster(self, name: str) -> Resource:
        self._template.name = name
        return resource(name, serialized(self._template))


def endpoints(name: str, peers: Iterable[Peer]) -> tuple[Resource, str]:
    """The instances of one target that can be called, and what is wrong with the first that cannot be."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    group = None
    problem = ""
    for peer in peers:
        address = peer.address
        host = LOCAL.get(address.host, address.host)
        if address.tls or not _is_ip(host):
            problem = problem or (NO_TLS if address.tls else NO_NAMES).format(peer.id)
            continue
        group = group or assignment.endpoints.add()
        endpoint = group.lb_endpoints.add().endpoint
        place = endpoint.address.socket_address
        place.address, place.port_value = host, address.port
        if host != address.host:
            endpoint.hostname = address.host
    return resource(name, serialized(assignment)), problem


def _is_ip(host: str) -> bool:
    """Whether Envoy can connect to it without a name service (and much faster than ``ipaddress``)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return True
    return False


def _template() -> cluster_pb2.Cluster:
    protocol = http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options={"idle_timeout": UPSTREAM_IDLE},
        explicit_http_config={"http_protocol_options": {}},
    )
    limits = {
        name: {"value": CALLS_LIMIT} for name in ("max_connections", "max_pending_requests", "max_requests")
    }
    return cluster_pb2.Cluster(
        type="EDS",
        eds_cluster_config={"eds_config": ADS},
        connect_timeout=CONNECT_TIMEOUT,
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        lb_policy="ROUND_ROBIN",
        common_lb_config={"healthy_panic_threshold": {"value": 1.0}},
        circuit_breakers={
            "thresholds": [{"priority": "DEFAULT", **limits, "max_retries": {"value": RETRIES_LIMIT}}]
        },
        outlier_detection={
            "interval": timedelta(seconds=1),
            "base_ejection_time": LEFT_OUT,
            "max_ejection_time": LEFT_OUT_LONGEST,
            "max_ejection_percent": {"value": 100},
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": {"value": FAILURES_IN_A_ROW},
            "enforcing_consecutive_local_origin_failure": {"value": 100},
            "enforcing_local_origin_success_rate": _OFF,
            "enforcing_consecutive_5xx": _OFF,
            "enforcing_consecutive_gateway_failure": _OFF,
            "enforcing_success_rate": _OFF,
            "enforcing_failure_percentage": _OFF,
            "enforcing_failure_percentage_local_origin": _OFF,
        },
        typed_extension_protocol_options={_HTTP: packed(protocol)},
    )
