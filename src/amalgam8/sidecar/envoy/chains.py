"""Where filters stand for the calls of a route that needs them, at no cost for others.

A filter in the listener's chain costs every call, even where it is off. So the listener has three slots, for
the buckets of rate limits, before them and behind them: each is one filter, off, that puts a chain of its own
in its stead where a route turns it on. In that chain each kind of entry has its place, and what a route does
not turn on is off. Source: ``envoy.extensions.filters.http.filter_chain.v3`` of Envoy 1.40, whose messages
are so small that their wire form is written here.
"""

from collections.abc import Mapping
from typing import Any

from envoy.config.core.v3 import extension_pb2
from envoy.config.route.v3 import route_components_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from amalgam8.sidecar.envoy.choices import place
from amalgam8.sidecar.envoy.messages import (
    ABORT,
    ACCESS,
    BEFORE,
    BEHIND,
    BUCKETS,
    BUDGETS,
    FAULT,
    HEADERS,
    HOP,
    LIMIT,
    MIRROR,
    SLICES,
    TRACE,
    UNKNOWN,
    member,
    packed,
    serialized,
)

SLOTS = {
    BEFORE: (UNKNOWN, ACCESS, LIMIT),
    BUDGETS: (SLICES, *BUCKETS),
    BEHIND: (MIRROR, TRACE, FAULT, ABORT, HEADERS, HOP),
}
"""The places of each slot, in the order in which their filters run."""

ON = packed(route_components_pb2.FilterConfig(config={}))
"""Turns on a filter that has nothing to be told."""

_OFF = packed(route_components_pb2.FilterConfig(disabled=True))
ALL_OFF = {name: _OFF for places in SLOTS.values() for name in places}
"""``typed_per_filter_config`` of a RouteConfiguration: what a route does not turn on is off in its slots."""

_TYPE = "type.googleapis.com/envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"


def slot(name: str, fixed: Mapping[str, AnyMessage] | None = None) -> AnyMessage:
    """The filter in the listener's chain: a FilterChainConfig of one FilterChain of TypedExtensionConfigs.

    ``fixed`` are filters that routes do no more than turn on; they outlive all changes of routes.
    """
    configs = {each: place() for each in SLOTS[name]} | dict(fixed or {})
    filters = (
        extension_pb2.TypedExtensionConfig(name=each, typed_config=config) for each, config in configs.items()
    )
    chain = b"".join(member(1, serialized(each)) for each in filters)
    return AnyMessage(type_url=_TYPE, value=member(1, chain))


def slotted(route: Any) -> Any:
    """The Route with the slots turned on that its filters stand in."""
    found = set(route.typed_per_filter_config)
    for cluster in route.route.weighted_clusters.clusters:
        found.update(cluster.typed_per_filter_config)
    for name, places in SLOTS.items():
        if found.intersection(places):
            route.typed_per_filter_config[name].CopyFrom(ON)
    return route
