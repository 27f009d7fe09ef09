"""render: one service's Routing as one line of JSON, from which nginx's workers build their tables.

Pure; equal input gives equal bytes. Host names come looked up, since the balancer of nginx takes addresses
alone; an instance is one peer, whatever its name stands for. Refuses a pattern that cannot be said in
nginx's own expressions.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from amalgam8.routing.addressing import address
from amalgam8.routing.condition import ALWAYS, Condition
from amalgam8.routing.plan import Entry
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Target, mirror_target
from amalgam8.sidecar.nginx.needle import needle
from amalgam8.sidecar.nginx.patterns import test
from amalgam8.sidecar.trust import NO_AUTHORITIES, Trust


class Unrenderable(Exception):
    """A destination asks for something that this proxy cannot do; the text says what."""


def line(service: ServiceRouting) -> bytes:
    """The service's line, with its end.

    Raises:
        Unrenderable: it asks for a pattern that cannot be said.
    """
    try:
        return msgspec.json.encode(_document(service)) + b"\n"
    except ValueError as error:
        raise Unrenderable(str(error)) from error


def believable(service: ServiceRouting, believed: Trust) -> None:
    """Refuse https instances where nobody could vouch for them.

    Raises:
        Unrenderable: there is one, and no authority is known.
    """
    if believed.usable:
        return
    for peer in (each for peers in service.peers.values() for each in peers):
        if peer.address.tls:
            raise Unrenderable(NO_AUTHORITIES.format(peer.id))


def unavailable(name: str) -> bytes:
    """The line of a service that is known and of which nothing could be rendered: 503."""
    target = Target(name)
    return (
        msgspec.json.encode(
            {
                "name": name,
                "key": address(name),
                "targets": [_target(target, ())],
                "routes": [{"slices": [{"target": 1, "weight": 1}]}],
            }
        )
        + b"\n"
    )


def _document(service: ServiceRouting) -> dict[str, Any]:
    order = {target: number for number, target in enumerate(sorted(service.peers, key=_name), 1)}
    document: dict[str, Any] = {
        "name": service.name,
        "key": address(service.name),
        "targets": [_target(target, service.peers[target]) for target in order],
        "routes": [_route(route, order) for route in service.routes],
        "outers": [_route(route, order) for route in service.outers],
        "access": [{**_entry(entry), "verdict": entry.verdict} for entry in service.access],
        "limits": [{**_entry(entry), "limits": entry.limits} for entry in service.limits],
        "headers": [{**_entry(entry), "set": entry.set, "remove": entry.remove} for entry in service.headers],
        "mirrors": [
            {
                **_entry(entry),
                "mirrors": [
                    {"target": order[mirror_target(service.name, mirror)], "percent": mirror.percent}
                    for mirror in entry.mirrors
                ],
            }
            for entry in service.mirrors
        ],
        "faults": [
            {**_entry(entry), "delays": entry.delays, "aborts": entry.aborts} for entry in service.faults
        ],
        "traces": [{**_entry(entry), "traces": entry.traces} for entry in service.traces],
    }
    return {key: value for key, value in document.items() if value}


def _name(target: Target) -> str:
    return target.name


def _entry(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {"rule": entry.rule}
    if entry.expires is not None:
        found["expires"] = entry.expires
    if entry.match != ALWAYS:
        found["match"] = _condition(entry.match)
    return found


def _condition(condition: Condition) -> dict[str, Any]:
    return {
        "headers": _patterns(condition.headers),
        "any": [[_patterns(choice) for choice in group] for group in condition.any],
        "none": [_patterns(banned) for banned in condition.none],
    }


def _patterns(patterns: Iterable[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Name, kind, text, and for an expression what to look for first, if anything."""
    found: list[tuple[str, ...]] = []
    for name, pattern in patterns:
        try:
            kind, text = test(pattern)
        except ValueError as error:
            raise ValueError(f"the pattern for header {name} cannot be used: {error}") from None
        first = needle(pattern) if kind == "regex" else ""
        found.append((name, kind, text, first) if first else (name, kind, text))
    return found


def _route(route: Route, order: Mapping[Target, int]) -> dict[str, Any]:
    found: dict[str, Any] = {"slices": [_slice(piece, order) for piece in route.slices]}
    if route.rule:
        found["rule"] = route.rule
    if route.expires is not None:
        found["expires"] = route.expires
    if route.match != ALWAYS:
        found["match"] = _condition(route.match)
    if route.affinity is not None:
        found["affinity"] = route.affinity
    if route.outer is not None:
        outer = route.outer
        found["order"] = outer.order
        members = {"path": outer.path, "prefix": outer.prefix, "rewrite": outer.rewrite}
        found |= {key: value for key, value in members.items() if value}
    return found


def _slice(piece: Any, order: Mapping[Target, int]) -> dict[str, Any]:
    found: dict[str, Any] = {"target": order[piece.target], "weight": piece.weight}
    if piece.timeout:
        found["timeout"] = piece.timeout
    if piece.retries is not None:
        found["retries"] = piece.retries
    return found


def _target(target: Target, peers: tuple[Peer, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "service": target.service,
        "name": target.name,
        "tags": target.tags,
        "peers": [_peer(peer) for peer in peers if peer.places or peer.address.is_ip],
    }
    if target.policy.lb_type:
        found["lb"] = target.policy.lb_type
    if target.policy.resilience is not None:
        found["resilience"] = target.policy.resilience
    return found


def _peer(peer: Peer) -> dict[str, Any]:
    place = peer.address
    first, *others = map(_bracketed, peer.places or (place.host,))
    found: dict[str, Any] = {"id": peer.id, "port": place.port, "tags": peer.tags}
    if place.tls:
        found["tls"] = True
    found["address"] = first
    if not place.is_ip:
        found["host"] = place.host
    if others:
        found["others"] = others
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
