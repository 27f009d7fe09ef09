"""What Envoy's tables hold of one service, and the ways to it: tree of first segments, and virtual host."""

from typing import Any

import msgspec
from envoy.config.route.v3 import route_components_pb2
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.addressing import address
from amalgam8.sidecar.envoy.attempts import host_message
from amalgam8.sidecar.envoy.choices import nested, on_match
from amalgam8.sidecar.envoy.limits import Bucket
from amalgam8.sidecar.envoy.messages import entry, member, serialized
from amalgam8.sidecar.envoy.nowhere import metadata, to_nowhere
from amalgam8.sidecar.envoy.patterns import path_is

OUTER_ORDER = tuple[int, str, str]


class Branch(msgspec.Struct, frozen=True):
    """Everything about one service, serialised.

    ``body``: its entries in the tree of first segments; ``host``: its virtual host; ``outers``: its outer
    paths with their ranks; ``passes``: its routes of the second pass by name; ``limits``: its token buckets.
    ``targets`` are the names of the clusters that it needs; ``hold`` is the longest injected delay, in s.
    """

    body: bytes
    targets: frozenset[str] = frozenset()
    hold: float = 0.0
    host: bytes = b""
    outers: tuple[tuple[OUTER_ORDER, bytes], ...] = ()
    passes: tuple[tuple[str, bytes], ...] = ()
    limits: tuple[Bucket, ...] = ()


def unavailable(name: str) -> Branch:
    """The part of a service that is known and of which nothing could be rendered: 503."""
    message = to_nowhere("SERVICE_UNAVAILABLE")
    message.MergeFrom(route_components_pb2.Route(name=name, metadata=metadata(name)))
    tree = matcher_pb2.Matcher(on_no_match=on_match("route", message))
    return Branch(segment(f"/{address(name)}", tree, tree), host=named_host(name, tree))


def nested_or_only(tree: Any) -> Any:
    """An OnMatch for a tree; a tree that only has one answer is that answer."""
    return nested(tree) if tree.matcher_list.matchers else tree.on_no_match


def segment(key: str, below: Any, itself: Any) -> bytes:
    """A service's entries in the tree of first segments: paths below its segment, and the segment alone.

    Each has routes of its own, since a route that cuts both would need a regular expression for each call.
    """
    alone = matcher_pb2.Matcher()
    alone.matcher_list.matchers.add(predicate=path_is(key), on_match=nested_or_only(itself))
    entries = ((f"{key}/", nested_or_only(below)), (key, nested(alone)))
    return b"".join(member(1, entry(prefix, serialized(then))) for prefix, then in entries)


def named_host(name: str, tree: Any) -> bytes:
    """A service's virtual host; none where its name cannot be one."""
    if "*" in name or any(ord(character) < 33 or ord(character) == 127 for character in name):
        return b""
    return serialized(host_message(f"host {name}", [name])) + member(21, serialized(tree))
