"""TLS to https endpoints: verified against the system's authorities, unless the settings say otherwise.

Each instance is verified for the address that it registered, a name or an IP address, whatever its
service's other instances are; so a cluster has one way to connect for each such host. Plain instances of
the same service stay plain.
"""

from collections.abc import Iterable
from typing import Any

from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from amalgam8.routing.resolve import Peer
from amalgam8.sidecar.envoy.messages import packed
from amalgam8.sidecar.trust import Trust

MATCH = "envoy.transport_socket_match"
"""Where an endpoint's metadata says how it is connected to; Envoy's own name."""

HOSTS_LIMIT = 256
"""Different hosts with TLS in one target; instances on more get no calls."""

TOO_MANY = f"more than {HOSTS_LIMIT} hosts with TLS in one version; instance {{}} gets no calls"


def tls_hosts(peers: Iterable[Peer]) -> tuple[str, ...]:
    """The hosts that are connected to with TLS, each once."""
    return tuple(sorted({peer.address.host for peer in peers if peer.address.tls})[:HOSTS_LIMIT])


def socket_matches(hosts: Iterable[str], believed: Trust, http2: bool) -> list[dict[str, Any]]:
    """``transport_socket_matches`` of a cluster; what matches none is plain."""
    matches: list[dict[str, Any]] = []
    for host in hosts:
        config = tls_pb2.UpstreamTlsContext()
        config.common_tls_context.alpn_protocols.append("h2" if http2 else "http/1.1")
        is_name = not _is_address(host)
        if is_name:
            config.sni = host
        if believed.verify:
            validation = config.common_tls_context.validation_context
            validation.trusted_ca.filename = believed.authorities
            validation.match_typed_subject_alt_names.add(
                san_type="DNS" if is_name else "IP_ADDRESS", matcher={"exact": host}
            )
        matches.append(_match(host, "tls", config))
    if matches:
        plain = {"name": "raw_buffer", "typed_config": packed(raw_buffer_pb2.RawBuffer())}
        matches.append({"name": "plain", "match": {}, "transport_socket": plain})
    return matches


def _match(host: str, kind: str, config: Any) -> dict[str, Any]:
    return {
        "name": f"{kind} {host}",
        "match": {"tls": host},
        "transport_socket": {"name": kind, "typed_config": packed(config)},
    }


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
