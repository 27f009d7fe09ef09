"""Routes: a match tree over the first path segment, and under each service its rows in order.

A service is addressed by its name, percent-encoded (RFC 3986, capital hex digits) where a character cannot
stand in a path. ``/name/`` and ``/name`` are two keys of the tree, the longest key that fits wins, and
under ``/name`` only the exact path matches, so that no name reaches into another.
Rows are routes × faults: the first row that matches is the first route and the first fault that match.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.decide import faults_of
from amalgam8.routing.plan import ALWAYS, Condition, FaultEntry
from amalgam8.routing.resolve import Route, ServiceRouting
from amalgam8.sidecar.envoy.faults import Unrenderable, fault_config, longest
from amalgam8.sidecar.envoy.listener import IDLE
from amalgam8.sidecar.envoy.messages import (
    MAIN,
    NAMESPACE,
    REASON_HEADER,
    SECOND,
    UNKNOWN,
    Resource,
    member,
    packed,
    resource,
    serialized,
)
from amalgam8.sidecar.envoy.patterns import header_matchers

ROWS_LIMIT = 4000
HEADERS_TIMEOUT = timedelta(seconds=15)
"""How long an instance may take until its response starts; after that it has no limit."""

RETRIES = 2
RETRY_ON = "connect-failure,refused-stream,reset-before-request"
"""Only where the request cannot have been processed."""

NOWHERE = "a8.nowhere"
"""A cluster that never exists: a route to it is answered by the listener's own words."""


class Branch(msgspec.Struct, frozen=True):
    """The part of the match tree that belongs to one service.

    ``targets`` are the names of the clusters that it needs; ``hold`` is the longest injected delay, in s.
    """

    body: bytes
    targets: frozenset[str] = frozenset()
    hold: float = 0.0


class _Row(msgspec.Struct, frozen=True):
    condition: Condition
    route: Route
    fault: FaultEntry | None


def branch(service: ServiceRouting) -> Branch:
    """Render one service's part of the tree.

    Raises:
        Unrenderable: its rules ask for more than this configuration can do.
    """
    found = rows(service)
    if len(found) > ROWS_LIMIT:
        raise Unrenderable(
            f"its routes and faults make {len(found)} combinations; at most {ROWS_LIMIT} are possible"
        )
    below, exact, hold = [], [], 0.0
    targets: set[str] = set()
    for row in found:
        held = _longest(row)
        message = _route(service.name, row, held)
        below.append(message)
        targets.update(piece.target.name for piece in row.route.slices if piece.weight)
        hold = max(hold, held)
    prefix = f"/{address(service.name)}"
    for message in below:
        twin = route_components_pb2.Route()
        twin.CopyFrom(message)
        message.match.prefix = f"{prefix}/"
        twin.match.path = prefix
        exact.append(twin)
    return Branch(_tree(prefix, below, exact), frozenset(targets), hold)


def _tree(prefix: str, below: list[Any], exact: list[Any]) -> bytes:
    exact = [*exact, _to_nowhere("NOT_FOUND")]
    return serialized(
        matcher_pb2.Matcher.MatcherTree.MatchMap(
            map={f"{prefix}/": _then(_list(below)), prefix: _then(_list(exact))}
        )
    )


def unavailable(name: str) -> Branch:
    """The part of a service that is known and of which nothing could be rendered: 503."""
    prefix = f"/{address(name)}"
    message = _to_nowhere("SERVICE_UNAVAILABLE")
    message.metadata.MergeFrom(_metadata(name))
    message.match.prefix = f"{prefix}/"
    twin = route_components_pb2.Route()
    twin.CopyFrom(message)
    twin.match.path = prefix
    return Branch(_tree(prefix, [message], [twin]))


def rows(service: ServiceRouting) -> list[_Row]:
    """Every route beside every fault, without the rows that can never be the first to match."""
    found: list[_Row] = []
    for route in service.routes:
        for fault in (*service.faults, None):
            condition = route.match.both(fault.match if fault else ALWAYS)
            if not any(condition.implies(row.condition) for row in found):
                found.append(_Row(condition, route, fault))
        if found and found[-1].condition == ALWAYS:
            break
    return found


def address(name: str) -> str:
    """The first path segment of calls to a service."""
    return quote(name, safe="!$&'()*+,;=:@")


def routes(bodies: Mapping[str, bytes]) -> Resource:
    """The main RouteConfiguration, put together from the bodies of the services' branches."""
    entries = b"".join(bodies[name] for name in sorted(bodies))
    return resource(MAIN, _configuration(entries, "NOT_FOUND"))


def waiting_routes() -> Resource:
    """What answers before anything is known: every service is unavailable."""
    return resource(MAIN, _configuration(b"", "INTERNAL_SERVER_ERROR"))


def second_routes() -> Resource:
    """Routes of the second pass; no rule needs one yet."""
    return resource(SECOND, serialized(route_pb2.RouteConfiguration(name=SECOND)))


def _configuration(entries: bytes, otherwise: str) -> bytes:
    """Serialised RouteConfiguration around the serialised entries of its match tree."""
    match_input = {
        "name": "path",
        "typed_config": packed(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=":path")),
    }
    no_match = matcher_pb2.Matcher(on_no_match=_then(_to_nowhere(otherwise)))
    if entries:
        tree = serialized(matcher_pb2.Matcher.MatcherTree(input=match_input)) + member(3, entries)
        matcher = serialized(no_match) + member(2, tree)
        host = serialized(_host()) + member(21, matcher)
    else:
        host = serialized(_host()) + serialized(
            route_components_pb2.VirtualHost(routes=[_to_nowhere(otherwise)])
        )
    around = route_pb2.RouteConfiguration(name=MAIN, response_headers_to_remove=[REASON_HEADER])
    return serialized(around) + member(2, host)


def _host() -> Any:
    return route_components_pb2.VirtualHost(
        name=MAIN,
        domains=["*"],
        retry_policy={
            "retry_on": RETRY_ON,
            "num_retries": {"value": RETRIES},
            "per_try_timeout": HEADERS_TIMEOUT,
            "retry_host_predicate": [
                {
                    "name": "previous_hosts",
                    "typed_config": packed(previous_hosts_pb2.PreviousHostsPredicate()),
                }
            ],
            "host_selection_retry_max_attempts": 5,
            "retry_back_off": {
                "base_interval": timedelta(milliseconds=10),
                "max_interval": timedelta(milliseconds=50),
            },
        },
    )


def _route(name: str, row: _Row, held: float) -> Any:
    pieces = [piece for piece in row.route.slices if piece.weight]
    configs = [fault_config(*faults_of(row.fault, piece)) if row.fault else {} for piece in pieces]
    route = route_components_pb2.Route(
        match={"headers": header_matchers(row.condition)},
        route={"prefix_rewrite": "/", "timeout": timedelta(0), "auto_host_rewrite": {"value": True}},
        metadata=_metadata(name, row.route.rule, row.fault.rule if row.fault else ""),
    )
    if held:
        route.route.idle_timeout.FromTimedelta(IDLE + timedelta(seconds=held))
    if len(pieces) == 1:
        route.route.cluster = pieces[0].target.name
        for filter_name, config in configs[0].items():
            route.typed_per_filter_config[filter_name].CopyFrom(config)
        return route
    for piece, config in zip(pieces, configs, strict=True):
        route.route.weighted_clusters.clusters.add(
            name=piece.target.name, weight={"value": piece.weight}, typed_per_filter_config=config
        )
    return route


def _metadata(name: str, rule: str = "", fault: str = "") -> Any:
    values = {"service": name, "key": address(name), "rule": rule, "fault": fault}
    fields = {key: {"string_value": value} for key, value in values.items()}
    return base_pb2.Metadata(filter_metadata={NAMESPACE: {"fields": fields}})


def _longest(row: _Row) -> float:
    if row.fault is None:
        return 0.0
    return max((longest(faults_of(row.fault, piece)[0]) for piece in row.route.slices), default=0.0)


def _to_nowhere(status: str) -> Any:
    """A route whose only use is the status that Envoy answers with, and the service's name for the text."""
    return route_components_pb2.Route(
        match={"prefix": "/"},
        route={"cluster": NOWHERE, "cluster_not_found_response_code": status},
        typed_per_filter_config={UNKNOWN: packed(route_components_pb2.FilterConfig(config={}))},
    )


def _list(messages: Iterable[Any]) -> Any:
    return route_components_pb2.RouteList(routes=messages)


def _then(action: Any) -> Any:
    return {"action": {"name": "route", "typed_config": packed(action)}}
