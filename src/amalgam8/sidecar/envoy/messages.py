"""How Envoy's messages are packed and versioned, and the names that all of them must spell alike.

Wire format: protocol buffers and xDS (``envoy.service.discovery.v3``). Serialised pieces of one message
may be put one after the other to make a whole of them; RouteConfigurations are assembled that way, so
that a service that did not change is not rendered again.
"""

import hashlib
from typing import Any

import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage

CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
EXTENSION = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
LISTENER = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"

MAIN = "main"
"""The listener that apps call, and its routes."""

SECOND = "second"
"""The internal listener of the second pass, and its routes."""

ADS_CLUSTER = "|ads"
INTERNAL = "|second"
"""The cluster that leads to the internal listener. No service's cluster has such a name."""

NAMESPACE = "a8"
"""Where route metadata and dynamic metadata of the mesh stand."""

REASON_HEADER = "x-a8-reason"

NEXT_HEADER = "x-a8-next"
"""Names the route of the second pass. Clients cannot send headers that begin with ``x-a8-``."""

FAULT_HEADER = "x-a8-fault"
"""Names the route of the pass after, for calls on which a fault acts."""

SHARED = "shared"
"""Noted on calls that take from a budget of the fleet: the rule."""

HOP_HEADER = "x-a8-hop"
"""What the last pass tells the first one about the instance, on responses."""

TRIES_HEADER = "x-a8-tries"
"""How often the pass that repeats calls has tried this one, on responses."""

END_HEADER = "x-a8-end"
"""Marks the answer that must not reach the caller: the stream is reset instead."""

FINAL_HEADER = "x-envoy-ratelimited"
"""On an answer of a pass behind: the pass in front does not repeat the call. A word of Envoy's own."""

NOTED = "noted"
"""Noted for each call about which a filter noted anything: its record has more to say than others."""

EMPTY_VARIABLE = "A8_EMPTY"
"""A variable of Envoy's environment without content, where formats need a piece of text that adds nothing."""

UNKNOWN = "a8.unknown"
"""The filter that reads the service's name out of the path, for answers about services nobody knows."""

SLICES = "a8.slices"
"""The filter that notes what one call costs of each budget that the fleet shares, and where it notes that."""

ACCESS = "a8.access"
LIMIT = "a8.limit"
BUCKETS = tuple(f"a8.bucket-{number}" for number in range(8))
MIRROR = "a8.mirror"
TRACE = "a8.trace"
FAULT = "a8.fault"
ABORT = "a8.abort"
HEADERS = "a8.headers"
HOP = "a8.hop"
"""The places of filters, in the order in which they run; routes have those that they need."""

BEFORE, BUDGETS, BEHIND = "a8.before", "a8.budgets", "a8.behind"
"""The slots of the listener's chain that routes fill: before the buckets of limits, for them, and behind."""


class Resource(msgspec.Struct, frozen=True):
    """One resource as Envoy gets it: ``body`` is the serialised message, ``version`` names its content."""

    name: str
    version: str
    body: bytes = b""


def resource(name: str, body: bytes) -> Resource:
    """A resource whose version is a hash of its content, so that equal content is never sent twice."""
    return Resource(name, hashlib.blake2b(body, digest_size=12).hexdigest(), body)


def serialized(message: Any) -> bytes:
    """The message's bytes; equal messages have equal bytes."""
    return bytes(message.SerializeToString(deterministic=True))


def packed(message: Any) -> AnyMessage:
    """The message as an ``Any``."""
    name = message.DESCRIPTOR.full_name
    return AnyMessage(type_url=f"type.googleapis.com/{name}", value=serialized(message))


def member(number: int, payload: bytes) -> bytes:
    """The wire form of one length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def entry(key: str, content: bytes) -> bytes:
    """The wire form of one entry of a map."""
    return member(1, key.encode()) + member(2, content)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
