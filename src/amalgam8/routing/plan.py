"""The Plan: rules of the controller, translated for one caller. Proxy-neutral, and small on the wire.

A Plan maps each destination to a DestinationPlan. Sources are gone: a rule whose source does not fit the
caller is not there, but for a foreign ``allow``, which leaves its guard behind. Weights are whole numbers
relative to each other, entries of each kind stand in the order in which they are tried, and each knows
the rule that it came from and when it lapses. A part's hash is a hash of its JSON; defaults are left out.

Wire format: data of the ``snapshot`` and ``delta`` events of ``GET /v1/plan/watch``.
"""

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from amalgam8.model.rule import Affinity, Resilience
from amalgam8.routing.condition import ALWAYS, Condition

Tags = tuple[str, ...]


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """How calls are spread over a backend's instances, and when one of them is left out."""

    lb_type: str = ""
    resilience: Resilience | None = None


DEFAULT_POLICY = Policy()


class PlanBackend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share of the calls for the instances of ``service`` that carry all ``tags``.

    ``weight`` is relative to the other backends of the entry; together they make the whole. ``timeout``
    (s, 0: none) and ``retries`` (None: the default) already have the route's own in them.
    """

    service: str
    tags: Tags = ()
    weight: int = 1
    policy: Policy = DEFAULT_POLICY
    timeout: float = 0
    retries: int | None = None


class Outer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Outer paths by which an entry is reached in place of the service's own address.

    ``order`` ranks such entries of all destinations: priority (negative), age, id.
    """

    order: tuple[int, str, str]
    path: str = ""
    prefix: str = ""
    rewrite: str = ""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What every kind of entry has: its rule, when it applies, and until when (seconds since the epoch)."""

    rule: str
    match: Condition = ALWAYS
    expires: float | None = None


class RouteEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    backends: tuple[PlanBackend, ...]
    affinity: Affinity | None = None
    outer: Outer | None = None


class AccessEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    """``guard`` allows nobody: it is what an allow rule of other callers leaves, that only they may call."""

    verdict: Literal["allow", "deny", "guard"]


class PlanLimit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token bucket of ``requests`` + ``burst``, refilled with ``requests`` in ``per`` seconds.

    One for all calls of this sidecar, or one for each value of ``header``. With a ``budget`` it is one for
    all sidecars whose limit names the same: each has a share of all these figures, which goes with demand.
    """

    requests: float
    per: float = 1
    burst: float = 0
    header: str = ""
    budget: str = ""


class LimitEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    limits: tuple[PlanLimit, ...]


class HeadersEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    """Lower-case names; set as they stand, so that nothing of the request's own value is left."""

    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class PlanMirror(msgspec.Struct, frozen=True, omit_defaults=True):
    tags: Tags
    percent: float = 100


class MirrorEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    mirrors: tuple[PlanMirror, ...]


class PlanDelay(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hold a call for ``seconds`` with ``probability`` in (0, 1], where the instance carries ``tags``."""

    seconds: float
    probability: float = 1
    tags: Tags = ()


class PlanAbort(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer ``status`` (-1: none) with ``probability`` in (0, 1], where the instance carries ``tags``."""

    status: int
    probability: float = 1
    tags: Tags = ()


class FaultEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    delays: tuple[PlanDelay, ...] = ()
    aborts: tuple[PlanAbort, ...] = ()


class PlanTrace(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    value: str = ""
    tags: Tags = ()


class TraceEntry(Entry, frozen=True, omit_defaults=True, kw_only=True):
    traces: tuple[PlanTrace, ...]


class DestinationPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the rules of one destination mean for one caller; entries of each kind in order.

    Of ``access``, every entry counts; of each other kind, the first whose match holds.
    """

    routes: tuple[RouteEntry, ...] = ()
    access: tuple[AccessEntry, ...] = ()
    limits: tuple[LimitEntry, ...] = ()
    headers: tuple[HeadersEntry, ...] = ()
    mirrors: tuple[MirrorEntry, ...] = ()
    faults: tuple[FaultEntry, ...] = ()
    traces: tuple[TraceEntry, ...] = ()


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
