"""What the stream of the Plan has told so far. A state machine without I/O.

A part that did not change stays the same object, which is how the resolver knows that there is nothing to do.
Refuses to know proxies and instances.
"""

from collections.abc import Mapping

import msgspec

from amalgam8.model.report import PlanStamp
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot


class SeenPlan(msgspec.Struct, frozen=True):
    """The Plan; a part that did not change is the same object."""

    parts: Mapping[str, DestinationPlan]
    stamp: PlanStamp


class PlanView:
    """The controller's Plan. ``seen`` is None until the first snapshot."""

    def __init__(self) -> None:
        self.seen: SeenPlan | None = None

    def snapshot(self, event: PlanSnapshot) -> None:
        """Replace everything; a part that is equal to the one that stands stays the same object."""
        old: Mapping[str, DestinationPlan] = self.seen.parts if self.seen else {}
        parts = {
            name: known if (known := old.get(name)) == part and known is not None else part
            for name, part in event.destinations.items()
        }
        self.seen = SeenPlan(parts, PlanStamp(event.revision, event.hash))

    def delta(self, event: PlanDelta) -> None:
        parts = {**(self.seen.parts if self.seen else {}), **event.changed}
        for name in event.removed:
            parts.pop(name, None)
        self.seen = SeenPlan(parts, PlanStamp(event.revision, event.hash))
