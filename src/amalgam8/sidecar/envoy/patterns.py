"""Conditions as predicates of Envoy's match tree. Rules search for a pattern; Envoy matches whole values.

So a pattern is put between runs of any bytes, which keeps its meaning: its flags end with the group that
holds it, and a quotation (``\\Q``) that it leaves open is closed. ``host`` is ``:authority`` in Envoy.
A predicate about an absent header is false.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from envoy.type.matcher.v3 import http_inputs_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from xds.type.matcher.v3 import matcher_pb2

from amalgam8.routing.condition import Condition, Conjunction
from amalgam8.sidecar.envoy.messages import packed

_PLAIN = re.compile(r"[^.^$*+?()\[\]{}|\\]+")
_AUTHORITY = "host"
_ANY = r"\C*"

Predicate = Any
"""``xds.type.matcher.v3.Matcher.MatcherList.Predicate``."""


def predicate(condition: Condition) -> Predicate | None:
    """What holds exactly where the condition does; None: always."""
    return all_of(
        [
            *(found(name, pattern) for name, pattern in condition.headers),
            *(any_of([_conjunction(choice) for choice in group]) for group in condition.any),
            *(_negated(_conjunction(banned)) for banned in condition.none),
        ]
    )


def all_of(parts: Iterable[Predicate | None]) -> Predicate | None:
    """What holds where all do; None among them or as the result: always."""
    needed = [part for part in parts if part is not None]
    if len(needed) < 2:
        return needed[0] if needed else None
    return matcher_pb2.Matcher.MatcherList.Predicate(and_matcher={"predicate": needed})


def any_of(parts: Sequence[Predicate | None]) -> Predicate | None:
    """What holds where one does, of at least one."""
    needed = [part for part in parts if part is not None]
    if len(needed) < len(parts):
        return None
    if len(needed) == 1:
        return needed[0]
    return matcher_pb2.Matcher.MatcherList.Predicate(or_matcher={"predicate": needed})


def found(name: str, pattern: str) -> Predicate:
    """Whether ``pattern`` is found in the header."""
    if not pattern:
        return value(name, safe_regex={"google_re2": {}, "regex": _ANY})
    if _PLAIN.fullmatch(pattern):  # cheaper than an expression, and most patterns are names
        return value(name, contains=pattern)
    return value(name, safe_regex={"google_re2": {}, "regex": whole_value(pattern)})


def value(name: str, **match: Any) -> Predicate:
    """Whether the header's whole value is as a StringMatcher wants it."""
    return matcher_pb2.Matcher.MatcherList.Predicate(
        single_predicate={
            "input": {"name": "header", "typed_config": header_input(name)},
            "value_match": match,
        }
    )


def path_is(path: str) -> Predicate:
    """Whether this is the request's path, its query aside."""
    return any_of([value(":path", exact=path), value(":path", prefix=f"{path}?")])


@lru_cache(maxsize=256)
def header_input(name: str) -> AnyMessage:
    """The value of a request header, repeated ones joined as ``decide.joined`` does."""
    header = ":authority" if name == _AUTHORITY else name
    return packed(http_inputs_pb2.HttpRequestHeaderMatchInput(header_name=header))


def whole_value(pattern: str) -> str:
    """An RE2 expression that matches exactly the values in which ``pattern`` is found.

    ``\\C`` is any byte, where ``.`` would stop at bytes that are no UTF-8.
    """
    return rf"\C*?(?:{pattern}{_ending(pattern)})\C*"


def _conjunction(patterns: Conjunction) -> Predicate | None:
    return all_of(found(name, pattern) for name, pattern in patterns)


def _negated(part: Predicate | None) -> Predicate:
    if part is None:  # nothing may happen that always does
        part = found(":path", "")
    return matcher_pb2.Matcher.MatcherList.Predicate(not_matcher=part)


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
