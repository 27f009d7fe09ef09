"""Rules, writes and requests that the controller's tests are made of."""

from itertools import count
from typing import Any

from amalgam8.controller.rulebook import Write
from amalgam8.model.rule import Backend, Delay, Match, Route, Rule, Source

NOON = 1_900_000_000.0


def route(identity: str = "", destination: str = "reviews", version: str = "v1", **more: Any) -> Rule:
    return Rule(identity, destination=destination, route=Route((Backend(tags=(version,)),)), **more)


def fault(identity: str = "", destination: str = "ratings", seconds: float = 7.0, **more: Any) -> Rule:
    return Rule(identity, destination=destination, actions=(Delay(seconds),), **more)


def sourced(name: str, identity: str = "", destination: str = "reviews", version: str = "v1") -> Rule:
    return route(identity, destination, version, match=Match(Source(name)))


def write(now: float = NOON, *, fault_ttl: float = 3600.0, request_id: str = "r-1", **terms: Any) -> Write:
    """A write at ``now`` whose new ids are new-0, new-1…"""
    numbers = count()
    return Write(now, lambda: f"new-{next(numbers)}", fault_ttl, request_id, **terms)


def document(
    destination: str = "reviews", version: str = "v1", *, source: str = "", **members: Any
) -> dict[str, Any]:
    """A route rule as a client sends it."""
    found = {"destination": destination, "route": {"backends": [{"tags": [version]}]}, **members}
    return {**found, "match": {"source": {"name": source}}} if source else found


def delay(destination: str = "ratings", seconds: float = 7, **members: Any) -> dict[str, Any]:
    """A fault rule as a client sends it."""
    return {"destination": destination, "actions": [{"action": "delay", "duration": seconds}], **members}
