"""Follows both watch streams and keeps what they tell in one cell, newest first.

A stream that is lost is reopened for ever (``clients.watch``); that is logged once when it goes and once
when it is back, not per attempt. A server of another protocol is waited for in the same way, since it may
be half way through an upgrade. Refuses to forget: losing a stream changes nothing that is known.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from amalgam8.clients.watch import Lost, Watch
from amalgam8.model.errors import ProtocolMismatch
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.routing.plan import PlanDelta, PlanSnapshot
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.view import InstanceView, PlanView, SeenInstances, SeenPlan

REFUSED_PAUSE = 5.0
"""Seconds between attempts at a server that speaks another protocol."""

_log = Log("sidecar.follow")


class Seen(msgspec.Struct, frozen=True):
    """The newest of both; None until the first snapshot of each. ``names``: addresses of host names."""

    plan: SeenPlan | None = None
    instances: SeenInstances | None = None
    names: Mapping[str, tuple[str, ...]] = {}


class Stream:
    """How a watch stream is doing. ``since``: the loop's time at which ``connected`` last changed."""

    def __init__(self, they: str) -> None:
        self.they = they
        self.connected: bool | None = None
        self.since = 0.0
        self.lost = 0
        self.reason = ""

    @property
    def age(self) -> float:
        """For how many seconds what the stream told may have been out of date."""
        if self.connected:
            return 0.0
        return asyncio.get_running_loop().time() - self.since if self.connected is not None else 0.0

    async def follow(self, watch: Watch[Any, Any], take: Callable[[Any], None]) -> None:
        """Hand every event of ``watch``, ``Lost`` too, to ``take``; never returns."""
        while True:
            try:
                async with contextlib.aclosing(watch.events()) as events:
                    async for event in events:
                        self._note(event)
                        take(event)
            except ProtocolMismatch as error:
                lost = Lost(error, REFUSED_PAUSE)
                self._note(lost)
                take(lost)
                await asyncio.sleep(REFUSED_PAUSE)

    def _note(self, event: object) -> None:
        if isinstance(event, Hello) and not self.connected:
            self._turn(connected=True, reason="")
            _log.info("following", whom=self.they)
        elif isinstance(event, Lost) and self.connected is not False:
            again = self.connected is not None
            self.lost += again
            self._turn(connected=False, reason=str(event.error))
            said = "lost, going on with what is known" if again else "not there yet, waiting for it"
            _log.warning(said, whom=self.they, error=event.error)
        elif isinstance(event, Lost):
            self.reason = str(event.error)

    def _turn(self, *, connected: bool, reason: str) -> None:
        self.connected, self.reason = connected, reason
        self.since = asyncio.get_running_loop().time()


class Follower:
    """Both streams together. ``key`` and ``registry_epoch`` are what the last hello of each said."""

    def __init__(self) -> None:
        self.seen = Latest(Seen())
        self.key = Latest("")
        self.registry_epoch = Latest("")
        self.registry = Stream("the registry")
        self.controller = Stream("the controller")
        self.instances = InstanceView()
        self.plan = PlanView()
        self._timer: asyncio.TimerHandle | None = None

    async def follow_registry(self, watch: Watch[InstanceSnapshot, InstanceDelta]) -> None:
        """Never returns."""
        try:
            await self.registry.follow(watch, self._take_instances)
        finally:
            self._expire_at(None)

    async def follow_controller(self, watch: Watch[PlanSnapshot, PlanDelta]) -> None:
        """Never returns."""
        await self.controller.follow(watch, self._take_plan)

    def take_names(self, answers: Mapping[str, tuple[str, ...]]) -> None:
        """Addresses of host names have changed."""
        self.seen.set(msgspec.structs.replace(self.seen.value, names=answers))

    def _take_instances(self, event: Hello | InstanceSnapshot | InstanceDelta | Lost) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(event, Hello):
            self.instances.hello(event, now)
            self.registry_epoch.set(event.epoch)
        elif isinstance(event, InstanceSnapshot):
            self.instances.snapshot(event)
        elif isinstance(event, InstanceDelta):
            self.instances.delta(event)
        else:
            self.instances.lost()
        self._publish_instances()

    def _publish_instances(self) -> None:
        if self.instances.seen is not self.seen.value.instances:
            self.seen.set(msgspec.structs.replace(self.seen.value, instances=self.instances.seen))
        self._expire_at(self.instances.next_expiry)

    def _expire_at(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else asyncio.get_running_loop().call_at(when, self._expire)

    def _expire(self) -> None:
        before = self.instances.held
        if self.instances.expire(asyncio.get_running_loop().time()):
            _log.info("let go of instances that did not come back", count=before - self.instances.held)
        self._publish_instances()

    def _take_plan(self, event: Hello | PlanSnapshot | PlanDelta | Lost) -> None:
        if isinstance(event, Hello):
            self.key.set(event.key)
            return
        if isinstance(event, PlanSnapshot):
            self.plan.snapshot(event)
        elif isinstance(event, PlanDelta):
            self.plan.delta(event)
        else:
            return
        self.seen.set(msgspec.structs.replace(self.seen.value, plan=self.plan.seen))
