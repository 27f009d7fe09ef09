"""Conditions as Envoy's header matchers. Rules search for a pattern; Envoy matches whole values.

So a pattern is put between runs of any bytes, which keeps its meaning: its flags end with the group that
holds it, and a quotation (``\\Q``) that it leaves open is closed. ``host`` is ``:authority`` in Envoy.
"""

import re
from typing import Any

from envoy.config.route.v3 import route_components_pb2

from amalgam8.routing.plan import Condition

_PLAIN = re.compile(r"[^.^$*+?()\[\]{}|\\]+")
_AUTHORITY = "host"


def header_matchers(condition: Condition) -> list[Any]:
    """One matcher for each pattern; a request meets the condition when all of them match."""
    return [_matcher(name, pattern) for name, pattern in condition.headers]


def _matcher(name: str, pattern: str) -> Any:
    header = ":authority" if name == _AUTHORITY else name
    if not pattern:
        return route_components_pb2.HeaderMatcher(name=header, present_match=True)
    if _PLAIN.fullmatch(pattern):  # cheaper than an expression, and most patterns are names
        return route_components_pb2.HeaderMatcher(name=header, string_match={"contains": pattern})
    return route_components_pb2.HeaderMatcher(
        name=header, string_match={"safe_regex": {"regex": whole_value(pattern)}}
    )


def whole_value(pattern: str) -> str:
    """An RE2 expression that matches exactly the values in which ``pattern`` is found.

    ``\\C`` is any byte, where ``.`` would stop at bytes that are no UTF-8.
    """
    return rf"\C*?(?:{pattern}{_ending(pattern)})\C*"


def _ending(pattern: str) -> str:
    """``\\E`` if the pattern ends inside a quotation."""
    at = 0
    while (at := pattern.find("\\", at)) >= 0:
        if pattern.startswith("\\Q", at):
            end = pattern.find("\\E", at + 2)
            if end < 0:
                return "\\E"
            at = end
        at += 2
    return ""
