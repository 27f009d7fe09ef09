"""TCP proxies in Envoy: a listener for each port that never changes, and what it does with connections.

A changed listener would cut its connections in the end. So the listener fetches its only filter as a
resource of its own: a new one counts for connections that come after it, and leaves the others alone, in the
old version too, for as long as both sides want. Until the first one comes, connections are closed.
"""

from collections.abc import Container, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2

from amalgam8.routing.connect import Connection
from amalgam8.routing.resolve import Routing
from amalgam8.sidecar.envoy.admin import Metric
from amalgam8.sidecar.envoy.listener import ADS, BUFFER_BYTES
from amalgam8.sidecar.envoy.messages import NAMESPACE, Resource, packed, resource, serialized
from amalgam8.sidecar.envoy.nowhere import NOWHERE
from amalgam8.sidecar.envoy.record import AS_TEXT, coalesced
from amalgam8.sidecar.tcp import TcpProxy, connection

ATTEMPTS = 3
"""Connections that are tried, to one version, until one is taken."""

IDLE = timedelta(hours=24)
"""A connection on which no byte has moved for so long is closed."""

_INSTANCE = {"command": "UPSTREAM_METADATA", "param": f"{NAMESPACE}:name"}
_STATS = (
    ("downstream_cx_total", "a8_proxy_tcp_connections_total", "TCP connections from apps, all."),
    ("downstream_cx_rx_bytes_total", "a8_proxy_tcp_received_bytes_total", "Bytes that apps sent over TCP."),
    ("downstream_cx_tx_bytes_total", "a8_proxy_tcp_sent_bytes_total", "Bytes that apps got over TCP."),
)
_TYPE = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"


class Rendered(msgspec.Struct, frozen=True):
    """The filters by name, and the clusters that they need."""

    filters: dict[str, Resource]
    targets: frozenset[str] = frozenset()


def listener_name(proxy: TcpProxy) -> str:
    """Of a port's listener and of its filter."""
    return f"tcp {proxy.port}"


def tcp_listeners(host: str, proxies: Iterable[TcpProxy]) -> dict[str, Resource]:
    """One for each port, by name; ``host`` is an IP address."""
    found: dict[str, Resource] = {}
    for proxy in proxies:
        name = listener_name(proxy)
        fetched = {
            "config_source": ADS,
            "type_urls": [_TYPE],
            "default_config": packed(_closing(proxy)),
            "apply_default_config_without_warming": True,
        }
        message = listener_pb2.Listener(
            name=name,
            stat_prefix=name,
            address={"socket_address": {"address": host, "port_value": proxy.port}},
            # Two sidecars on one port must be an error, not a lottery.
            enable_reuse_port={"value": False},
            per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
            filter_chains=[{"filters": [{"name": name, "config_discovery": fetched}]}],
            metadata={
                "filter_metadata": {NAMESPACE: {"fields": {"service": {"string_value": proxy.service}}}}
            },
        )
        found[name] = resource(name, serialized(message))
    return found


class TcpFilters:
    """Renders the filters of all ports, and remembers those that Envoy last had with all that they lead to.

    ``source`` is the caller as ``name:tag,tag``.
    """

    def __init__(
        self, proxies: Iterable[TcpProxy] = (), source: str = "", records: Path | None = None
    ) -> None:
        self._proxies = tuple(proxies)
        self._source = source
        self._records = records
        self._given: dict[str, tuple[Resource, frozenset[str]]] = {}
        self._good = self._given

    def render(self, routing: Routing, refused: Container[str] = ()) -> Rendered:
        """A filter that would lead to one of the ``refused`` targets stays as it was; a new one closes."""
        given: dict[str, tuple[Resource, frozenset[str]]] = {}
        for proxy in self._proxies:
            name, found = listener_name(proxy), connection(proxy, routing)
            needed = frozenset(piece.target.name for piece in found.slices) if found else frozenset[str]()
            if not any(target in refused for target in needed):
                given[name] = self._resource(proxy, found), needed
            else:
                given[name] = self._good.get(name) or (self._resource(proxy, None), frozenset())
        self._given = given
        filters = {name: filter_ for name, (filter_, _) in given.items()}
        return Rendered(filters, frozenset[str]().union(*(needed for _, needed in given.values())))

    def followed(self) -> None:
        """Envoy has all of what was rendered last."""
        self._good = self._given

    def _resource(self, proxy: TcpProxy, found: Connection | None) -> Resource:
        name, config = listener_name(proxy), packed(self._filter(proxy, found))
        return resource(name, serialized(extension_pb2.TypedExtensionConfig(name=name, typed_config=config)))

    def _filter(self, proxy: TcpProxy, found: Connection | None) -> Any:
        message = _closing(proxy)
        if self._records is not None:
            message.access_log.append(self._recording(self._records, proxy, found))
        for piece in found.slices if found else ():
            message.weighted_clusters.clusters.add(name=piece.target.name, weight=piece.weight)
        return message

    def _recording(self, records: Path, proxy: TcpProxy, found: Connection | None) -> Any:
        """One record for each connection, when it ends; the members are those of requests, where they fit."""
        members: dict[str, Any] = {
            "start_time": "%START_TIME%",
            "request_time": "%DURATION%",
            "src": _literal(self._source),
            "dst": coalesced(_INSTANCE, {"command": "METADATA", "param": f"LISTENER:{NAMESPACE}:service"}),
            "message": f"TCP {_literal(proxy.service)} %RESPONSE_FLAGS%",
            "module": "ENVOY",
            "protocol": "TCP",
            "response_flags": "%RESPONSE_FLAGS%",
            "upstream_host": "%UPSTREAM_HOST%" + AS_TEXT,
            "bytes_received": "%BYTES_RECEIVED%",
            "bytes_sent": "%BYTES_SENT%",
            "rules": [_literal(found.rule) if found and found.rule else "-"],
        }
        config = file_pb2.FileAccessLog(path=str(records), log_format={"json_format": members})
        return accesslog_pb2.AccessLog(name="records", typed_config=packed(config))


def stats(proxies: Iterable[TcpProxy]) -> tuple[Metric, ...]:
    """Envoy's statistics of each port. Its own survive a new filter, others would begin at zero again."""
    return tuple(
        Metric(f"tcp.{proxy.port}.{stat}", name, "counter", text, _labels(proxy))
        for stat, name, text in _STATS
        for proxy in proxies
    )


def _labels(proxy: TcpProxy) -> str:
    return f'destination="{proxy.service}",port="{proxy.port}"'


def _closing(proxy: TcpProxy) -> Any:
    """A filter that closes every connection: its cluster never exists."""
    return tcp_proxy_pb2.TcpProxy(
        stat_prefix=str(proxy.port),
        cluster=NOWHERE,
        max_connect_attempts={"value": ATTEMPTS},
        idle_timeout=IDLE,
    )


def _literal(text: str) -> str:
    return text.replace("%", "%%")
