"""What happens to leases, one line each in the log, and no more lines than can be read.

A mass registration would else fill the log and cost more than the registrations: of what comes above
LINES in a second there is one line with the counts. Nothing is lost to people: ``registry.history`` has the
last events of each tenant. Refuses to be silent about a freeze.
"""

import time
from collections import Counter
from collections.abc import Callable

from amalgam8.registry.store import Happened
from amalgam8.runtime.logs import Log

LINES = 50
"""Written in a second."""

_log = Log("registry")


class LeaseLog:
    """``clock`` counts seconds. ``settle`` is to be called several times in each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._written = 0
        self._left: Counter[str] = Counter()

    def happened(self, event: Happened) -> None:
        """Write it down; renewals are not."""
        if event.what in ("frozen", "thawed"):
            _log.warning(f"expiry {event.what}", tenant=event.tenant, reason=event.reason)
            return
        if event.what == "renewed":
            return
        if self._written >= LINES:
            self._left[event.what] += 1
            return
        self._written += 1
        why = {"reason": event.reason} if event.reason else {}
        _log.info(f"instance {event.what}", tenant=event.tenant, service=event.service, id=event.id, **why)

    def settle(self) -> None:
        """Once the second is over, say how much was left out in it."""
        now = self._clock()
        if now - self._since < 1:
            return
        if self._left:
            _log.info("more happened to instances than is written one by one", **self._left)
            self._left.clear()
        self._since, self._written = now, 0
