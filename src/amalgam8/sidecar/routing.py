"""Joins what the streams told into the Routing that the proxy is to follow, at each change and each lapse.

Nothing is desired before both the first Plan and the first instances are there; later losses keep the
last. Changes that arrive together are joined, and one after quiet is passed on at once. Refuses to know
which proxy it is.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from amalgam8.routing.resolve import Tags
from amalgam8.runtime.latest import Latest
from amalgam8.runtime.logs import Log
from amalgam8.sidecar.follow import Seen
from amalgam8.sidecar.proxy import Desired, Stamp
from amalgam8.sidecar.resolver import Resolver

CLOCK_CHECK = 1.0
"""While a rule is to lapse: seconds after which the clock is looked at again, should it have been set."""

_log = Log("sidecar.routing")


class Join:
    """Keeps ``desired`` up to date. ``clock`` gives seconds since the epoch; ``pins`` as for ``Resolver``."""

    def __init__(
        self,
        seen: Latest[Seen],
        desired: Latest[Desired],
        clock: Callable[[], float] = time.time,
        pins: Mapping[str, tuple[Tags, ...]] | None = None,
    ) -> None:
        self.resolutions = 0
        self.seconds = 0.0
        self._seen = seen
        self._desired = desired
        self._clock = clock
        self._resolver = Resolver(pins)

    async def run(self) -> None:
        """Never returns."""
        while True:
            version = self._seen.version
            self._join(self._seen.value)
            await self._wait(version)

    def _join(self, seen: Seen) -> None:
        if seen.plan is None or seen.instances is None:
            return
        started = time.perf_counter()
        changed = self._resolver.update(seen.plan.parts, seen.instances.groups, self._clock(), seen.names)
        self.resolutions += 1
        self.seconds += time.perf_counter() - started
        stamp = Stamp(seen.plan.stamp, seen.instances.stamp)
        if changed or stamp != self._desired.value.stamp:
            self._desired.set(Desired(self._resolver.routing, stamp))
            _log.debug("desired", plan=stamp.plan.revision, registry=stamp.registry.revision, changed=changed)

    async def _wait(self, version: int) -> None:
        """Return when there is something newer, or an entry may have lapsed."""
        lapse = self._resolver.next_lapse
        pause = None if lapse is None else min(max(lapse - self._clock(), 0.0), CLOCK_CHECK)
        try:
            async with asyncio.timeout(pause):
                await self._seen.newer(version)
        except TimeoutError:
            pass
