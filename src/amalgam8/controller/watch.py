"""One sidecar's view of its tenant's Plans, as ``web.sse`` streams it.

Wire format: ``hello``, ``snapshot`` and ``delta`` of ``GET /v1/plan/watch`` (``docs/reference/streams.md``).
"""

from collections.abc import Callable

import msgspec

from amalgam8.controller.plans import Plans
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
        sent: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.epoch = epoch
        self._key = key
        self._caller = caller
        self._mirror = mirror
        self._feed = mirror.feed
        self._plans = plans
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
            return reached, None
        self._sent("delta")
        return reached, Event("delta", reached, data)

    async def newer(self, revision: int) -> int:
        return await self._feed.newer(revision)
