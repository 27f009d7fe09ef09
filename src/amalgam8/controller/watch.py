"""One sidecar's view of its tenant's Plans, and its shares of budgets, as ``web.sse`` streams them.

Wire format: ``hello``, ``snapshot``, ``delta`` and ``slices`` of ``GET /v1/plan/watch``
(``docs/reference/streams.md``).
"""

import asyncio
from collections.abc import Callable

import msgspec

from amalgam8.controller.plans import Plans
from amalgam8.controller.slices import FleetLimits
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller
from amalgam8.model.stream import PROTOCOL, Hello
from amalgam8.web.sse import Event


class PlanSource:
    """A Source for ``web.sse.EventStream``: the Plan of ``caller``.

    ``key`` lets the sidecar report afterwards; ``sent`` hears the name of each event, for metrics.
    """

    def __init__(
        self,
        epoch: str,
        key: str,
        caller: Caller,
        mirror: Mirror,
        plans: Plans,
        limits: FleetLimits,
        identity: str,
        sent: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.epoch = epoch
        self._key = key
        self._caller = caller
        self._mirror = mirror
        self._feed = mirror.feed
        self._plans = plans
        self._limits = limits
        self._slices = limits.told(identity)
        self._told = self._slices.version
        self._sent = sent

    def hello(self) -> bytes:
        return msgspec.json.encode(Hello(self.epoch, self._mirror.book.revision, PROTOCOL, self._key))

    def snapshot(self) -> Event:
        revision, data = self._plans.snapshot(self._caller)
        self._sent("snapshot")
        return Event("snapshot", revision, data)

    def since(self, revision: int) -> tuple[int, Event | None]:
        """A delta from ``revision`` to the newest, or no event if this Plan is the same; may raise Gap."""
        self._feed.check()
        reached, data = self._plans.delta(self._caller, revision)
        if data is None:
            return reached, self._new_slices(reached)
        self._sent("delta")
        return reached, Event("delta", reached, data)

    async def newer(self, revision: int) -> int:
        if not self._limits.shared:  # as nearly everywhere, and cheaper
            return await self._feed.newer(revision)
        if self._slices.version > self._told:
            return revision
        waiting = [
            asyncio.ensure_future(self._feed.newer(revision)),
            asyncio.ensure_future(self._slices.newer(self._told)),
        ]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        return revision

    def _new_slices(self, revision: int) -> Event | None:
        """The sidecar's shares, if they are others than it was told."""
        if self._slices.version == self._told:
            return None
        self._told = self._slices.version
        self._sent("slices")
        return Event("slices", revision, msgspec.json.encode(self._slices.value))
