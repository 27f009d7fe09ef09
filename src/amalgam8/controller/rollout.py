"""A rollout: a new version gets more and more of a service's calls, as long as it does well.

Frozen nouns, and the order as clients send it. A rollout never changes the service's default route until it
is over: its share stands in a rule of its own above that route, which lapses by itself. So what is left,
whoever dies, is the old version's routing. Refuses to know clocks and stores.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import msgspec

from amalgam8.model.caller import name_problem
from amalgam8.model.document import TAGS_LIMIT
from amalgam8.model.errors import InvalidInput, InvalidJson
from amalgam8.model.rule import Rule

State = Literal["running", "paused", "returning", "finishing", "done", "failed", "inconclusive", "aborted"]
ACTIVE: frozenset[str] = frozenset({"running", "paused", "returning", "finishing"})

STEPS = (5.0, 25.0, 50.0, 100.0)
STEPS_LIMIT = 50
INTERVAL_LIMIT = 86_400.0
SECONDS_LIMIT = 60.0
REQUESTS_LIMIT = 1_000_000
EVENTS_KEPT = 200
TEXT_LIMIT = 1024
"""Bytes of a tag."""


class Order(msgspec.Struct, frozen=True):
    """What is asked for: shares in percent, times in seconds, ``max_errors`` from 0 to 1."""

    service: str
    version: tuple[str, ...]
    steps: tuple[float, ...] = STEPS
    interval: float = 60.0
    max_errors: float = 0.01
    max_p99: float | None = None
    min_requests: int = 50


class Event(msgspec.Struct, frozen=True):
    """What happened; ``at`` is RFC 3339."""

    at: str
    text: str


class Rollout(msgspec.Struct, frozen=True):
    """One rollout as it is stored. ``edition`` grows by one with each write.

    ``base`` is the default route as it was at the start, ``step`` the position in ``order.steps``.
    ``outcome`` and ``reason`` say what it becomes once it has returned.
    """

    id: str
    edition: int
    order: Order
    base: Rule
    state: State
    created: str
    author: str = ""
    step: int = 0
    outcome: State = "aborted"
    reason: str = ""
    ended: str = ""
    events: tuple[Event, ...] = ()

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def share(self) -> float:
        """Percent of the calls that its step gives the new version."""
        return self.order.steps[self.step]

    @property
    def old(self) -> tuple[str, ...]:
        """The tags of the version that is the default."""
        assert self.base.route is not None  # noqa: S101 - ``rollout_rules.default_route`` saw to it
        return self.base.route.backends[0].tags

    @property
    def rule(self) -> str:
        """The id of the rule that holds its share."""
        return f"rollout-{self.id}"

    def went(self, at: str, text: str, **changes: Any) -> "Rollout":
        """The next edition, with what happened."""
        events = (*self.events, Event(at, text))[-EVENTS_KEPT:]
        return msgspec.structs.replace(self, edition=self.edition + 1, events=events, **changes)

    def turned(self, at: str, text: str, outcome: State) -> "Rollout":
        """The next edition, on its way back to the old version."""
        return self.went(at, text, state="returning", outcome=outcome, reason=text)


def read_order(document: Mapping[str, Any]) -> Order:
    """The order of a request's body.

    Raises:
        InvalidJson: a member is unknown, missing, or of the wrong type.
        InvalidInput: a value is out of bounds; the text names it.
    """
    known = Order.__struct_fields__
    if unknown := sorted(set(document) - set(known)):
        raise InvalidJson(f"$.{unknown[0]}: unknown member; known are {', '.join(known)}")
    try:
        order = msgspec.convert(document, Order)
    except msgspec.ValidationError as error:
        raise InvalidJson(str(error)) from None
    if wrong := _problem(order):
        raise InvalidInput(f"$.{wrong}")
    return order


def _problem(order: Order) -> str | None:
    steps, tags = order.steps, order.version
    if wrong := name_problem(order.service):
        return f"service: {wrong}"
    if not 1 <= len(tags) <= TAGS_LIMIT or len(set(tags)) != len(tags):
        return f"version: name 1 to {TAGS_LIMIT} tags, each once"
    if any(not tag or len(tag.encode()) > TEXT_LIMIT or "," in tag for tag in tags):
        return f"version: a tag holds 1 to {TEXT_LIMIT} bytes and no comma"
    if not 1 <= len(steps) <= STEPS_LIMIT or any(not 0.01 <= step <= 100 for step in steps):
        return f"steps: 1 to {STEPS_LIMIT} shares between 0.01 and 100 percent"
    if any(later <= earlier for earlier, later in pairwise(steps)):
        return "steps: each must be larger than the one before"
    if steps[-1] != 100:
        return "steps: the last must be 100, which makes the new version the default"
    if not 1 <= order.interval <= INTERVAL_LIMIT:
        return f"interval: must be between 1 and {INTERVAL_LIMIT:g} seconds"
    if not 0 <= order.max_errors <= 1:
        return "max_errors: must be between 0 and 1"
    if order.max_p99 is not None and not 0 < order.max_p99 <= SECONDS_LIMIT:
        return f"max_p99: must be above 0 and at most {SECONDS_LIMIT:g} seconds"
    if not 1 <= order.min_requests <= REQUESTS_LIMIT:
        return f"min_requests: must be between 1 and {REQUESTS_LIMIT}"
    return None
