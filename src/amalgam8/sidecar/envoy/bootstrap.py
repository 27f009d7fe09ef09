"""Envoy's bootstrap: who it is, where it asks, and no statistics but those that ``/metrics`` shows.

Everything else comes over the stream. The admin interface is a unix socket that only its owner can use.
"""

from pathlib import Path
from typing import Any

import msgspec

from amalgam8.sidecar.envoy.messages import ADS_CLUSTER, INTERNAL, REASON_HEADER, SECOND
from amalgam8.sidecar.envoy.record import STATS_PREFIX
from amalgam8.sidecar.envoy.speech import HTTP2

CONNECTIONS_LIMIT = 10_000
"""Open connections from apps; above it new ones are closed."""

EXPRESSION_LIMIT = 100_000
"""Size of a compiled pattern above which Envoy refuses it; rules were checked when they were written."""

BUCKETS = [1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000]
"""Of the histogram of calls, in milliseconds."""

INTERNAL_CALLS_LIMIT = 100_000
"""Above what the clusters of instances allow, so that it never decides."""

BUFFER_BYTES = 256 * 1024

INLINE = {"REQUEST_HEADER": ("traceparent", "cookie"), "RESPONSE_HEADER": (REASON_HEADER,)}
"""Headers that are looked for in each call: they have a place of their own, so nothing searches for them."""

MEMORY = {"bytes_to_release": 1024 * 1024, "memory_release_interval": "1s"}
"""Has Envoy's allocator tidy up once a second: it gives back what is free, by and by, and some seconds after
a start it puts what is in use on huge pages where the kernel lets it (Linux 6.1): 4 % of a call with 1,000
services."""

_HTTP2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TYPE = "type.googleapis.com/envoy."


def bootstrap(ads_socket: Path, admin_socket: Path, service: str, stats: tuple[str, ...]) -> bytes:
    """The bootstrap file's JSON; ``service`` is the caller's, ``stats`` are all the statistics to keep."""
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    document: dict[str, Any] = {
        "node": {"id": "sidecar", "cluster": service or "none"},
        "admin": {
            "address": {"pipe": {"path": str(admin_socket), "mode": 0o600}},
            "ignore_global_conn_limit": True,
        },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": ADS_CLUSTER,
                            "retry_policy": {
                                "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}
                            },
                        }
                    }
                ],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": {"clusters": [_ads_cluster(ads_socket), *_internal_clusters()]},
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {
                        "re2.max_program_size.error_level": EXPRESSION_LIMIT,
                        "re2.max_program_size.warn_level": EXPRESSION_LIMIT,
                    },
                }
            ]
        },
        # Histograms are put together when figures are asked for, and not for nobody.
        "stats_flush_on_admin": True,
        "memory_allocator_manager": MEMORY,
        "inline_headers": [
            {"inline_header_name": name, "inline_header_type": kind}
            for kind, names in INLINE.items()
            for name in names
        ],
        "stats_config": {
            "use_all_default_tags": False,
            "histogram_bucket_settings": [{"match": {"prefix": STATS_PREFIX}, "buckets": BUCKETS}],
            "stats_matcher": {
                "inclusion_list": {
                    "patterns": [{"prefix": STATS_PREFIX}, *({"exact": name} for name in stats)]
                }
            },
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_TYPE}extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": CONNECTIONS_LIMIT,
                    },
                }
            ]
        },
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": f"{_TYPE}extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ],
    }
    return msgspec.json.format(msgspec.json.encode(document))


def _ads_cluster(socket: Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": ADS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": ADS_CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            _HTTP2: {
                "@type": f"type.googleapis.com/{_HTTP2}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def _internal_clusters() -> list[dict[str, Any]]:
    """Lead to the internal listener. Its calls have been counted, and failures are the instances'."""
    names = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    endpoint = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": SECOND}}}}
    plain = {
        "name": INTERNAL,
        "type": "STATIC",
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "load_assignment": {"cluster_name": INTERNAL, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [dict.fromkeys(names, INTERNAL_CALLS_LIMIT)]},
    }
    grpc = {
        "name": INTERNAL + HTTP2,
        "typed_extension_protocol_options": {
            _HTTP2: {
                "@type": f"type.googleapis.com/{_HTTP2}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }
    return [plain, plain | grpc]
