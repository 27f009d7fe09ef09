"""Clusters and their endpoints: one cluster for each target.

Clusters differ by name and policy only, and the policy is in the name, so that a rule or an instance that
comes or goes changes endpoints and routes, and never a cluster with open connections. An instance that
refuses connections is left out for some seconds; one that answers 5xx only where the policy says so. When
all are left out, all are tried.
"""

from collections.abc import Iterable
from datetime import timedelta

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from amalgam8.model.rule import Resilience
from amalgam8.routing.plan import Policy
from amalgam8.routing.resolve import Peer, Target
from amalgam8.sidecar.envoy.listener import ADS, BUFFER_BYTES
from amalgam8.sidecar.envoy.messages import NAMESPACE, Resource, member, packed, resource, serialized
from amalgam8.sidecar.envoy.speech import both
from amalgam8.sidecar.envoy.tls import MATCH, TOO_MANY, socket_matches, tls_hosts
from amalgam8.sidecar.trust import NO_AUTHORITIES, NO_TRUST, Trust

CONNECT_TIMEOUT = timedelta(seconds=1)
UPSTREAM_IDLE = timedelta(seconds=4)
"""Below the 5 s after which common servers close an idle connection, so that we close it first."""

KEEP_ALIVE = {
    "keepalive_time": {"value": 300},
    "keepalive_interval": {"value": 60},
    "keepalive_probes": {"value": 5},
}
"""Seconds, and how often: an instance that is gone without a word ends its calls after ten minutes."""

CALLS_LIMIT = 10_000
"""Connections, waiting calls and calls under way to one target; above it calls are refused."""

RETRIES_LIMIT = 1000
LEFT_OUT, LOOK = timedelta(seconds=2), timedelta(seconds=3)
"""Who refused connections comes back at the first look after LEFT_OUT: after 2 to 5 s. Each look at a target
costs a little, called or not, so those without rules of their own are not looked at more often."""

LEFT_OUT_LONGEST = timedelta(seconds=10)
FAILURES_IN_A_ROW = 2
FIVE_IN_A_ROW = 5
"""Envoy's own number, which has no effect where the policy gives none."""

TEMPLATES_LIMIT = 256

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_OFF = {"value": 0}


_LB = {"": "ROUND_ROBIN", "least_request": "LEAST_REQUEST", "random": "RANDOM"}


class Clusters:
    """Renders clusters from one template for each policy."""

    def __init__(self, believed: Trust = NO_TRUST) -> None:
        self._templates: dict[tuple[Policy, bool, tuple[str, ...]], cluster_pb2.Cluster] = {}
        self._trust = believed

    def cluster(self, target: Target, http2: bool = False, hosts: tuple[str, ...] = ()) -> Resource:
        """``hosts`` are those that are connected to with TLS."""
        key = target.policy, http2, hosts
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) > TEMPLATES_LIMIT:
                self._templates.clear()
            template = self._templates[key] = _template(target.policy, http2)
            template.transport_socket_matches.extend(
                cluster_pb2.Cluster.TransportSocketMatch(**match)
                for match in socket_matches(hosts, self._trust, http2)
            )
        template.name = both(target.name)[http2]
        return resource(template.name, serialized(template))


def endpoints(
    target: Target, peers: Iterable[Peer], believed: Trust = NO_TRUST
) -> tuple[tuple[Resource, Resource], str]:
    """The instances of one target that can be called, and what is wrong with the first that cannot be.

    Once for each of its clusters. An instance is one endpoint, however many addresses its host name has:
    they are tried one after the other when a connection is made. One without any is left out.
    """
    assignment = endpoint_pb2.ClusterLoadAssignment()
    group = None
    problem = ""
    peers = tuple(peers)
    secure = tls_hosts(peers)
    for peer in peers:
        address = peer.address
        if words := _obstacle(peer, secure, believed):
            problem = problem or words.format(peer.id)
            continue
        if not (peer.places or address.is_ip):
            continue
        first, *others = peer.places or (address.host,)
        group = group or assignment.endpoints.add()
        one = group.lb_endpoints.add()
        endpoint = one.endpoint
        place = endpoint.address.socket_address
        place.address, place.port_value = first, address.port
        for other in others:
            endpoint.additional_addresses.add(
                address={"socket_address": {"address": other, "port_value": address.port}}
            )
        if peer.places:
            endpoint.hostname = address.host
        said = f"{target.service}:{','.join(peer.tags)}" if peer.tags else target.service
        if address.tls:
            one.metadata.filter_metadata[MATCH].fields["tls"].string_value = address.host
        one.metadata.filter_metadata[NAMESPACE].fields["name"].string_value = said
    content = serialized(assignment)
    plain, grpc = (resource(name, member(1, name.encode()) + content) for name in both(target.name))
    return (plain, grpc), problem


def _obstacle(peer: Peer, secure: tuple[str, ...], believed: Trust) -> str:
    """Why an instance cannot be called; empty: it can."""
    if peer.address.tls and not believed.usable:
        return NO_AUTHORITIES
    if peer.address.tls and peer.address.host not in secure:
        return TOO_MANY
    return ""


def _template(policy: Policy, http2: bool) -> cluster_pb2.Cluster:
    resilience = policy.resilience or Resilience()
    protocol = http_protocol_options_pb2.HttpProtocolOptions(
        common_http_protocol_options={"idle_timeout": UPSTREAM_IDLE}
        | (
            {"max_requests_per_connection": {"value": resilience.max_requests_per_connection}}
            if resilience.max_requests_per_connection
            else {}
        ),
        explicit_http_config={"http2_protocol_options" if http2 else "http_protocol_options": {}},
    )
    limits = {
        name: {"value": getattr(resilience, name) or CALLS_LIMIT}
        for name in ("max_connections", "max_pending_requests", "max_requests")
    }
    left_out = timedelta(seconds=resilience.sleep_window) if resilience.sleep_window else LEFT_OUT
    interval = timedelta(seconds=resilience.detection_interval or 1) if policy.resilience else LOOK
    return cluster_pb2.Cluster(
        type="EDS",
        eds_cluster_config={"eds_config": ADS},
        connect_timeout=CONNECT_TIMEOUT,
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        upstream_connection_options={"tcp_keepalive": KEEP_ALIVE},
        lb_policy=_LB[policy.lb_type],
        common_lb_config={"healthy_panic_threshold": {"value": 1.0}},
        circuit_breakers={
            "thresholds": [{"priority": "DEFAULT", **limits, "max_retries": {"value": RETRIES_LIMIT}}]
        },
        outlier_detection={
            "interval": interval,
            "base_ejection_time": left_out,
            "max_ejection_time": max(left_out, LEFT_OUT_LONGEST),
            "max_ejection_percent": {"value": 100},
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": {"value": FAILURES_IN_A_ROW},
            "enforcing_consecutive_local_origin_failure": {"value": 100},
            "enforcing_local_origin_success_rate": _OFF,
            "consecutive_5xx": {"value": resilience.consecutive_errors or FIVE_IN_A_ROW},
            "enforcing_consecutive_5xx": {"value": 100} if resilience.consecutive_errors else _OFF,
            "enforcing_consecutive_gateway_failure": _OFF,
            "enforcing_success_rate": _OFF,
            "enforcing_failure_percentage": _OFF,
            "enforcing_failure_percentage_local_origin": _OFF,
        },
        typed_extension_protocol_options={_HTTP: packed(protocol)},
    )
