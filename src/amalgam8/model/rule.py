"""A rule: for calls to one destination, either routes or actions, where ``match`` holds.

Frozen nouns whose JSON is the rule document (``docs/reference/rules.md``); members that are empty are
left out, ``priority`` never is. Reading and checking stand in ``rule_reader``; what a rule means stands
in ``amalgam8.routing``. Refuses to know the time: ``ttl`` is turned into ``expires`` by whoever writes.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which callers: of this name (empty: any) whose tags include these."""

    name: str = ""
    tags: tuple[str, ...] = ()


class Match(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which calls: from ``source``, with every header found by its RE2 pattern (search, not whole value)."""

    source: Source | None = None
    headers: dict[str, str] = {}


class Backend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A share of the calls: instances of ``name`` (empty: the destination) that carry all ``tags``.

    ``weight`` is in (0, 1]; 0 means an equal share of what the weighted backends leave.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    weight: float = 0  # the integer: only defaults that are the same object are left out of JSON


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    backends: tuple[Backend, ...] = ()


class Delay(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="delay"):
    """Hold the call for ``duration`` seconds; ``probability`` 0 means always."""

    duration: float
    probability: float = 0
    tags: tuple[str, ...] = ()


class Abort(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="action", tag="abort"):
    """Answer with ``return_code`` in place of the destination; ``probability`` 0 means always."""

    return_code: int
    probability: float = 0
    tags: tuple[str, ...] = ()


Action = Delay | Abort


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
        return bool(self.actions)


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
