"""A bounded log of changes by revision that wakes its followers at a measured pace.

Each follower keeps a cursor, not a queue: a slow one falls off the log and needs a fresh snapshot, and
memory stays bounded whatever it does. The first change after quiet is published at once, what follows
within FIRST_GAP together, growing to LAST_GAP while changes keep coming. Refuses to know what a change is.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from amalgam8.runtime.latest import Latest

T = TypeVar("T")

FIRST_GAP = 0.010
LAST_GAP = 0.050
QUIET = 0.200
"""Seconds without a change after which the next one goes out at once."""

LENGTH = 4096


class Gap(LookupError):
    """The log no longer reaches back to the revision asked for."""


class Feed(Generic[T]):
    """Changes of one tenant; ``revision`` is the newest, ``published`` what followers may see."""

    def __init__(self, revision: int = 0, length: int = LENGTH) -> None:
        self.revision = revision
        self._base = revision
        self._log: deque[tuple[int, T]] = deque()
        self._length = length
        self._published = Latest(revision)
        self._last = float("-inf")
        self._gap = FIRST_GAP
        self._timer: asyncio.TimerHandle | None = None

    @property
    def published(self) -> int:
        return self._published.value

    def append(self, revision: int, change: T) -> None:
        """Add a change; several may share a revision, which never goes back."""
        self.revision = revision
        self._log.append((revision, change))
        while len(self._log) > self._length:
            self._base = self._log.popleft()[0]
        if self._timer is None:
            self._schedule()

    def reset(self, revision: int) -> None:
        """Forget the log: every follower needs a snapshot at ``revision``."""
        self._log.clear()
        self.revision = self._base = revision
        self._published.set(revision)

    def since(self, revision: int) -> tuple[int, list[T]]:
        """The published changes above ``revision``, oldest first, and the revision that they lead to.

        Raises:
            Gap: the log starts later than that, or never was there.
        """
        upto = self.published
        if revision < self._base or revision > self.revision:
            raise Gap(revision)
        changes = [change for at, change in self._log if revision < at <= upto]
        return max(upto, revision), changes

    async def newer(self, revision: int) -> int:
        """Return the published revision as soon as it is above ``revision`` or the log was reset."""
        while True:
            version = self._published.version
            if self.published != revision and (self.published > revision or revision > self.revision):
                return self.published
            await self._published.newer(version)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._last
        if quiet >= QUIET:
            self._gap = FIRST_GAP
        if quiet >= self._gap:
            self._publish()
        else:
            self._timer = loop.call_later(self._gap - quiet, self._publish)
            self._gap = min(self._gap * 1.5, LAST_GAP)

    def _publish(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._published.set(self.revision)
