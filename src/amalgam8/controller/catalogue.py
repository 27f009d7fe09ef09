"""The instances that the registry knows, as far as the controller needs them: to explain calls.

One stream for each tenant that is followed. Stale beats empty, as in a sidecar: a lost stream takes nothing
away. Refuses to guess: a tenant that is not followed, or not seen yet, has no instances that are known,
which is not the same as none.
"""

import asyncio
import contextlib
from collections.abc import Callable

from amalgam8.clients.instances import Groups, InstanceView
from amalgam8.clients.watch import Lost, Watch
from amalgam8.model.errors import ProtocolMismatch
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from amalgam8.runtime.logs import Log

REFUSED_PAUSE = 5.0
"""Seconds between attempts at a registry that speaks another protocol."""

_log = Log("catalogue")


class Catalogue:
    """Instances by tenant. ``clock`` is steady, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._views: dict[str, InstanceView] = {}

    def groups(self, tenant: str) -> Groups | None:
        """The tenant's instances that take calls, by service; None: not known."""
        view = self._views.get(tenant)
        if view is None:
            return None
        view.expire(self._clock())
        return view.seen.groups if view.seen is not None else None

    async def follow(self, tenant: str, watch: Watch[InstanceSnapshot, InstanceDelta]) -> None:
        """Take in what the registry's stream tells; runs until it is cancelled."""
        view = self._views.setdefault(tenant, InstanceView())
        there: bool | None = None
        while True:
            try:
                async with contextlib.aclosing(watch.events()) as events:
                    async for event in events:
                        now = not isinstance(event, Lost)
                        if now is not there:
                            there = now
                            _note(tenant, event)
                        self._take(view, event)
            except ProtocolMismatch as error:
                view.lost()
                if there is not False:
                    there = False
                    _log.warning("the registry speaks another protocol", tenant=tenant, error=error)
                await asyncio.sleep(REFUSED_PAUSE)

    def _take(self, view: InstanceView, event: Hello | InstanceSnapshot | InstanceDelta | Lost) -> None:
        match event:
            case Hello():
                view.hello(event, self._clock())
            case InstanceSnapshot():
                view.snapshot(event)
            case InstanceDelta():
                view.delta(event)
            case Lost():
                view.lost()


def _note(tenant: str, event: object) -> None:
    if isinstance(event, Lost):
        _log.warning(
            "the registry is not there, going on with what is known", tenant=tenant, error=event.error
        )
    else:
        _log.info("following the registry", tenant=tenant)
