"""Where filters stand for the calls of a route that needs them, at no cost for others.

A filter in the listener's chain costs every call, even where it is off. So the listener has two slots, before
the buckets of rate limits and behind them: each is one filter, off, that puts a chain of its own in its stead
where a route turns it on. In that chain each kind of entry has its place, and what a route has no use for is
off. Source: ``envoy.extensions.filters.http.filter_chain.v3`` of Envoy 1.40, whose messages are so small that
their wire form is written here.
"""

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
    FAULT,
    HEADERS,
    HOP,
    LIMIT,
    MIRROR,
    TRACE,
    UNKNOWN,
    member,
    packed,
    serialized,
)

SLOTS = {BEFORE: (UNKNOWN, ACCESS, LIMIT), BEHIND: (MIRROR, TRACE, FAULT, ABORT, HEADERS, HOP)}
"""The places of each slot, in the order in which their filters run."""

ON = packed(route_components_pb2.FilterConfig(config={}))
"""Turns on a filter that has nothing to be told."""

_OFF = packed(route_components_pb2.FilterConfig(disabled=True))
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.filter_chain.v3.FilterChainConfig"


def slot(name: str) -> AnyMessage:
    """The filter in the listener's chain: a FilterChainConfig of one FilterChain of TypedExtensionConfigs."""
    filters = (extension_pb2.TypedExtensionConfig(name=each, typed_config=place()) for each in SLOTS[name])
    chain = b"".join(member(1, serialized(each)) for each in filters)
    return AnyMessage(type_url=_TYPE, value=member(1, chain))


def slotted(route: Any) -> Any:
    """The Route with the slots turned on that its filters stand in, and what it does not use turned off."""
    found = set(route.typed_per_filter_config)
    for cluster in route.route.weighted_clusters.clusters:
        found.update(cluster.typed_per_filter_config)
    if not found:
        return route
    for name, places in SLOTS.items():
        if used := found.intersection(places):
            route.typed_per_filter_config[name].CopyFrom(ON)
            for each in set(places) - used:
                route.typed_per_filter_config[each].CopyFrom(_OFF)
    return route
