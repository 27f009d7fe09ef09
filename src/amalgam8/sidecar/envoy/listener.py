"""The listeners: everything about them is there from the start, so that they never change.

A changed listener would drain its connections. So every HTTP filter that a rule can need stands in the
chain, disabled, in three slots (``chains``), and routes enable it where they need it. ``main``
is what apps call; ``second`` is the internal listener through which calls pass a second time where faults
have to act behind retries.
Paths and bodies pass untouched; headers that could steer Envoy or forge the mesh's word are dropped.
"""

import socket
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.sidecar.envoy.chains import slot
from amalgam8.sidecar.envoy.choices import discovered
from amalgam8.sidecar.envoy.limits import bucket_config
from amalgam8.sidecar.envoy.messages import (
    BEFORE,
    BEHIND,
    BUCKETS,
    BUDGETS,
    MAIN,
    SECOND,
    SLICES,
    Resource,
    packed,
    resource,
    serialized,
)
from amalgam8.sidecar.envoy.replies import first_pass, second_pass
from amalgam8.sidecar.envoy.slices import source as slices_source

BUFFER_BYTES = 256 * 1024
"""What one connection may hold in memory in each direction; a body of any length streams through that."""

HEADERS_KB = 96
HEADERS_COUNT = 200
NO_LIMIT = timedelta(0)
FLUSH = timedelta(hours=1)
"""How long an answer that is complete waits for an app that does not read it.

Calls, and connections between them, have no such limit, which would cost each call a timer: whoever is gone
without a word, TCP finds out.
"""

DELAYED_CLOSE = timedelta(milliseconds=50)
"""How long a connection that we close waits for the other side to close it first."""

STREAM_WINDOW_BYTES = 256 * 1024
CONNECTION_WINDOW_BYTES = 1024 * 1024


def listeners(
    host: str,
    port: int,
    loggers: Sequence[Any] = (),
    slices: Path | None = None,
    origin: str = "a8" * 16,
    workers: int = 1,
) -> dict[str, Resource]:
    """Both listeners, by name; ``host`` is an IP address, ``loggers`` write the access records.

    ``slices`` is the file that says what calls cost of the fleet's budgets. ``origin`` are 32 hexadecimal
    digits that no other sidecar has, for the trace parents that it makes.
    """
    address = {"socket_address": {"address": host, "port_value": port}}
    main = listener_pb2.Listener(
        name=MAIN,
        stat_prefix=MAIN,
        address=address,
        # Two sidecars on one port must be an error, not a lottery.
        enable_reuse_port={"value": False},
        socket_options=[_KEEP_ALIVE],
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[_chain(_main_manager(loggers, slices, _early(origin, workers)))],
    )
    second = listener_pb2.Listener(
        name=SECOND,
        stat_prefix=SECOND,
        internal_listener={},
        per_connection_buffer_limit_bytes={"value": BUFFER_BYTES},
        filter_chains=[_chain(_second_manager())],
    )
    return {message.name: resource(message.name, serialized(message)) for message in (main, second)}


_KEEP_ALIVE = {"level": socket.SOL_SOCKET, "name": socket.SO_KEEPALIVE, "int_value": 1}


def _chain(manager: Any) -> dict[str, Any]:
    return {"filters": [{"name": "http", "typed_config": packed(manager)}]}


def _main_manager(loggers: Sequence[Any], slices: Path | None, early: dict[str, Any]) -> Any:
    return _manager(
        MAIN,
        [
            _off(BEFORE, slot(BEFORE)),
            _off(BUDGETS, slot(BUDGETS, _budgets(slices))),
            _off(BEHIND, slot(BEHIND)),
            _router(),
        ],
        access_log=loggers,
        early_header_mutation_extensions=[early],
        generate_request_id={"value": True},
        preserve_external_request_id=True,
        request_id_extension={
            "typed_config": packed(uuid_pb2.UuidRequestIdConfig(pack_trace_reason={"value": False}))
        },
        local_reply_config={"mappers": first_pass()},
    )


def _second_manager() -> Any:
    return _manager(
        SECOND,
        [_off(BEHIND, slot(BEHIND)), _router()],
        generate_request_id={"value": False},
        preserve_external_request_id=True,
        local_reply_config={"mappers": second_pass()},
    )


def _manager(name: str, filters: Sequence[Any], **more: Any) -> Any:
    return http_connection_manager_pb2.HttpConnectionManager(
        stat_prefix=name,
        codec_type="AUTO",
        rds={"route_config_name": name, "config_source": ADS},
        http_filters=filters,
        server_header_transformation="PASS_THROUGH",
        skip_xff_append=True,
        normalize_path={"value": False},
        merge_slashes=False,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        max_request_headers_kb={"value": HEADERS_KB},
        common_http_protocol_options={
            "idle_timeout": NO_LIMIT,
            "max_headers_count": {"value": HEADERS_COUNT},
        },
        http_protocol_options={"accept_http_10": True, "default_host_for_http_10": "localhost"},
        http2_protocol_options={
            "max_concurrent_streams": {"value": 1000},
            "initial_stream_window_size": {"value": STREAM_WINDOW_BYTES},
            "initial_connection_window_size": {"value": CONNECTION_WINDOW_BYTES},
        },
        stream_idle_timeout=NO_LIMIT,
        stream_flush_timeout=FLUSH,
        delayed_close_timeout=DELAYED_CLOSE,
        request_timeout=NO_LIMIT,
        upgrade_configs=[{"upgrade_type": "websocket"}],
        **more,
    )


ADS = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": timedelta(0)}
"""Where Envoy gets a resource from: our stream, and it waits for it without a clock."""


def _off(name: str, config: Any) -> Any:
    return http_connection_manager_pb2.HttpFilter(name=name, disabled=True, typed_config=config)


def _budgets(slices: Path | None) -> dict[str, AnyMessage]:
    """Filters whose configurations are resources of their own; until they are there, they limit nothing."""
    empty = bucket_config(())
    source = {
        "config_source": ADS,
        "default_config": empty,
        "apply_default_config_without_warming": True,
        "type_urls": [empty.type_url],
    }
    buckets = {name: discovered(name, source) for name in BUCKETS}
    return buckets | ({SLICES: discovered(SLICES, slices_source(slices))} if slices else {})


def _router() -> Any:
    """It adds Envoy's own headers: one of them keeps the path as it came, which nothing does for less."""
    return http_connection_manager_pb2.HttpFilter(
        name="router", typed_config=packed(router_pb2.Router(dynamic_stats={"value": False}))
    )


def _early(origin: str, workers: int) -> dict[str, Any]:
    """Before anything looks at a request: nothing in it speaks for the mesh; and it has a trace parent."""
    return {
        "name": "strip",
        "typed_config": packed(
            header_mutation_pb2.HeaderMutation(
                mutations=[
                    *_traced(origin, workers),
                    *({"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in OWN_PREFIXES),
                ]
            )
        ),
    }


OWN_PREFIXES = ("x-envoy-", "x-a8-")

_SEED = "x-a8-seed"
"""A random number for the time of one step; its first eight digits are hexadecimal."""


def _traced(origin: str, workers: int) -> list[dict[str, Any]]:
    """A ``traceparent`` (W3C) for requests without one, never sampled here.

    Its trace is the time in nanoseconds, which one worker never reads twice, behind what tells this sidecar
    from others. Several workers may read the same, so 32 random bits are added: that costs three times as
    much, and expressions that make all of a random number would cost five times as much again.
    """
    time = "%START_TIME(%s%9f)%"
    if workers == 1:
        before, trace = [], f"{origin[:13]}{time}"
    else:
        before = [_appended({"key": _SEED, "value": "%UNIQUE_ID%"}, "OVERWRITE_IF_EXISTS_OR_ADD")]
        trace = f"{origin[:5]}{time}%REQ({_SEED}):8%"
    return [
        *before,
        _appended({"key": "traceparent", "value": f"00-{trace}-{origin[16:]}-00"}, "ADD_IF_ABSENT"),
    ]


def _appended(header: dict[str, str], action: str) -> dict[str, Any]:
    return {"append": {"header": header, "append_action": action}}
