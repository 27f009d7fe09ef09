"""A rule: for calls to one destination, either routes or actions, where ``match`` holds.

Frozen nouns whose JSON is the rule document (``docs/reference/rules.md``); members that are empty are
left out, ``priority`` never is. Reading and checking stand in ``rule_reader``; what a rule means stands
in ``amalgam8.routing``. Refuses to know the time: ``ttl`` is turned into ``expires`` by whoever writes.
Defaults of numbers are integers, since only defaults that are the same object are left out of JSON.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which callers: of this name (empty: any) whose tags include these."""

    name: str = ""
    tags: tuple[str, ...] = ()


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which calls: from ``source``, with every header found by its RE2 pattern (search, not whole value)."""

    source: Source | None = None
    headers: dict[str, str] = {}


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """What must hold: ``source`` and ``headers``, each block of ``all``, one of ``any``, none of ``none``."""

    source: Source | None = None
    headers: dict[str, str] = {}
    all: tuple[Block, ...] = ()
    any: tuple[Block, ...] = ()
    none: tuple[Block, ...] = ()

    def sources(self) -> Iterator[Source]:
        """Every source that is named anywhere in it."""
        if self.source is not None:
            yield self.source
        for block in (*self.all, *self.any, *self.none):
            if block.source is not None:
                yield block.source


class Resilience(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits and ejection of a backend's instances; 0 or absent: the default. Times in seconds.

    ``consecutive_errors`` 5xx answers in a row leave an instance out for ``sleep_window``, looked at
    every ``detection_interval``.
    """

    max_connections: int = 0
    max_pending_requests: int = 0
    max_requests: int = 0
    max_requests_per_connection: int = 0
    consecutive_errors: int = 0
    sleep_window: float = 0
    detection_interval: float = 0


class Backend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share of the calls: instances of ``name`` (empty: the destination) that carry all ``tags``.

    ``weight`` is in (0, 1]; 0 means an equal share of what the weighted backends leave. ``timeout`` (s)
    and ``retries`` are the older spelling of the route's members, which beat them.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 0
    lb_type: str = ""
    resilience: Resilience | None = None
    timeout: float = 0
    retries: int | None = None


class Uri(msgspec.Struct, frozen=True, omit_defaults=True):
    """Outer paths that lead to the destination: exactly ``path``, or all that begin with ``prefix``.

    ``prefix_rewrite`` replaces what matched.
    """

    path: str = ""
    prefix: str = ""
    prefix_rewrite: str = ""


class Affinity(msgspec.Struct, frozen=True, omit_defaults=True):
    """Keeps a user on one version: by the value of a request header, or of a cookie."""

    header: str = ""
    cookie: str = ""


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """``http_req_timeout`` in seconds for the whole exchange, 0: none; ``http_req_retries`` 0: no retry."""

    backends: tuple[Backend, ...] = ()
    uri: Uri | None = None
    http_req_timeout: float = 0
    http_req_retries: int | None = None
    affinity: Affinity | None = None


class Delay(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="delay"):
    """Hold the call for ``duration`` seconds; ``probability`` 0 means always."""

    duration: float
    probability: float = 0
    tags: tuple[str, ...] = ()


class Abort(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="abort"):
    """Answer with ``return_code`` in place of the destination, -1: with no complete answer.

    ``probability`` 0 means always.
    """

    return_code: int
    probability: float = 0
    tags: tuple[str, ...] = ()


TRACE_KEY = "gremlin_recipe_id"
"""The member that a trace without ``log_key`` writes, and that every access record has."""


class Trace(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="trace"):
    """Write ``log_key`` (empty: TRACE_KEY): ``log_value`` into the access record of the call."""

    log_key: str = ""
    log_value: str = ""
    tags: tuple[str, ...] = ()


class Allow(msgspec.Struct, frozen=True, tag_field="action", tag="allow"):
    """Let these calls pass, and refuse all that no allow rule of the destination matches."""


class Deny(msgspec.Struct, frozen=True, tag_field="action", tag="deny"):
    """Refuse these calls."""


class RateLimit(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="rate_limit"):
    """A token bucket of ``requests`` + ``burst`` that refills with ``requests`` in ``per`` seconds.

    ``key``: one bucket for ``all``, for each ``caller``, or for each value of ``header:NAME``.
    """

    requests: float
    per: float = 1
    burst: float = 0
    key: str = "all"
    scope: str = "sidecar"


class Mirror(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="mirror"):
    """Copy ``percent`` of the calls to the instances that carry ``tags``, and forget the answers."""

    tags: tuple[str, ...]
    percent: float = 100


class SetHeaders(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="headers"):
    """Set and remove request headers on the way to the callee."""

    set: dict[str, str] = {}
    remove: tuple[str, ...] = ()


Action = Delay | Abort | Trace | Allow | Deny | RateLimit | Mirror | SetHeaders
Fault = Delay | Abort


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule. ``created`` (set by the server, unique in a tenant) breaks ties of equal priority.

    ``expires`` is RFC 3339; ``ttl`` in seconds stands in rules that were just read, and as 0 in stored
    faults that were told to stay for ever.
    """

    id: str
    priority: int = msgspec.field(default_factory=int)
    destination: str = ""
    tags: tuple[str, ...] = ()
    match: Match | None = None
    route: Route | None = None
    actions: tuple[Action, ...] = ()
    expires: str = ""
    ttl: float | None = None
    description: str = ""
    created: str = ""
    author: str = ""

    @property
    def expires_at(self) -> float | None:
        """When the rule lapses, in seconds since the epoch; None: never."""
        return timestamp(self.expires) if self.expires else None

    @property
    def has_fault(self) -> bool:
        return any(isinstance(action, Fault) for action in self.actions)


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """The total order in which rules are tried: highest priority, then the oldest, then by id."""
    return sorted(rules, key=lambda rule: (-rule.priority, rule.created, rule.id))


def timestamp(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time with a zone.

    Raises:
        ValueError: no such time.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment.timestamp()


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, with microseconds: text order is time order."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
