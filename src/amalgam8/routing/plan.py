"""The Plan: rules of the controller, translated for one caller. Proxy-neutral, and small on the wire.

A Plan maps each destination to a DestinationPlan. Sources are gone: a rule whose source does not fit the
caller is not there. Weights are whole numbers relative to each other, entries stand in the order in which
they are tried, and each knows the rule that it came from and when it lapses. A part's hash is a hash of
its JSON, so equal parts are equal everywhere.

Wire format: data of the ``snapshot`` and ``delta`` events of ``GET /v1/plan/watch``.
"""

import hashlib
from collections.abc import Mapping

import msgspec

Pattern = tuple[str, str]
"""Lower-case header name and RE2 pattern, found by search."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request must show: every pattern is found in its header. Nothing to show: always true."""

    headers: tuple[Pattern, ...] = ()

    def implies(self, other: "Condition") -> bool:
        """Whether each request that meets this surely meets ``other`` (decided by their text alone)."""
        return set(other.headers) <= set(self.headers)

    def both(self, other: "Condition") -> "Condition":
        """The condition that holds where this and ``other`` hold."""
        return Condition(tuple(sorted({*self.headers, *other.headers})))


ALWAYS = Condition()


class PlanBackend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share of the calls for the instances of ``service`` that carry all ``tags``.

    ``weight`` is relative to the other backends of the entry; together they make the whole.
    """

    service: str
    tags: tuple[str, ...] = ()
    weight: int = 1


class RouteEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    rule: str
    backends: tuple[PlanBackend, ...]
    match: Condition = ALWAYS
    expires: float | None = None


class PlanDelay(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a call for ``seconds`` with ``probability`` in (0, 1], where the instance carries ``tags``."""

    seconds: float
    probability: float = 1
    tags: tuple[str, ...] = ()


class PlanAbort(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer ``status`` with ``probability`` in (0, 1], where the instance carries ``tags``."""

    status: int
    probability: float = 1
    tags: tuple[str, ...] = ()


class FaultEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    rule: str
    match: Condition = ALWAYS
    delays: tuple[PlanDelay, ...] = ()
    aborts: tuple[PlanAbort, ...] = ()
    expires: float | None = None


class DestinationPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the rules of one destination mean for one caller; entries of each kind in order."""

    routes: tuple[RouteEntry, ...] = ()
    faults: tuple[FaultEntry, ...] = ()


Plan = Mapping[str, DestinationPlan]


class PlanSnapshot(msgspec.Struct, frozen=True):
    """The whole Plan of the caller at ``revision``; ``hash`` names it."""

    revision: int
    hash: str
    destinations: dict[str, DestinationPlan]


class PlanDelta(msgspec.Struct, frozen=True):
    """Parts that changed and destinations that are gone, up to ``revision``; ``hash`` names the result."""

    revision: int
    hash: str
    changed: dict[str, DestinationPlan] = {}
    removed: tuple[str, ...] = ()


def encode_part(part: DestinationPlan) -> bytes:
    """The part's JSON. Equal parts have equal bytes."""
    return msgspec.json.encode(part)


def part_hash(encoded: bytes) -> str:
    """The name of a part's content."""
    return hashlib.sha256(encoded).hexdigest()[:16]


def plan_hash(parts: Mapping[str, str]) -> str:
    """The name of a Plan's content, from the hashes of its parts by destination."""
    digest = hashlib.sha256()
    for destination in sorted(parts):
        digest.update(f"{destination}\0{parts[destination]}\0".encode())
    return digest.hexdigest()[:16]
