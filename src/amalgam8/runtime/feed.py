"""A bounded log of changes by revision that wakes its followers at a measured pace.

Each follower keeps a cursor, not a queue: a slow one falls off the log and needs a fresh snapshot, and
memory stays bounded whatever it does. A change is published at once if none was within the last gap; what
comes within it goes out together, and the gap grows from FIRST_GAP to LAST_GAP while it joins changes.
Refuses to know what a change is.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from amalgam8.runtime.latest import Latest

T = TypeVar("T")

FIRST_GAP = 0.010
LAST_GAP = 0.050
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
        self._nudges = 0
        self._heard: list[Callable[[T | None], None]] = []
        self._ended = False

    @property
    def published(self) -> int:
        return self._published.value

    def on_change(self, heard: Callable[[T | None], None]) -> None:
        """Call ``heard`` with each change as it is added, and with None where the log was forgotten."""
        self._heard.append(heard)

    def append(self, revision: int, change: T) -> None:
        """Add a change; several may share a revision, which never goes back."""
        self.revision = revision
        self._log.append((revision, change))
        while len(self._log) > self._length:
            self._base = self._log.popleft()[0]
        if self._timer is None:
            self._schedule()
        for heard in self._heard:
            heard(change)

    def reset(self, revision: int) -> None:
        """Forget the log: every follower needs a snapshot at ``revision``."""
        self._log.clear()
        self.revision = self._base = revision
        self._published.set(revision)
        for heard in self._heard:
            heard(None)

    def end(self) -> None:
        """Make every follower come back and begin anew, as revisions mean nothing now."""
        self._ended = True
        self.reset(-1)

    def check(self) -> None:
        """Raises ConnectionResetError once the feed has ended."""
        if self._ended:
            raise ConnectionResetError("the store has begun another epoch")

    def since(self, revision: int) -> tuple[int, list[T]]:
        """The published changes above ``revision``, oldest first, and the revision that they lead to.

        Raises:
            Gap: the log starts later than that, or never was there.
            ConnectionResetError: the feed has ended.
        """
        self.check()
        upto = self.published
        if revision < self._base or revision > self.revision:
            raise Gap(revision)
        changes = [change for at, change in self._log if revision < at <= upto]
        return max(upto, revision), changes

    async def newer(self, revision: int) -> int:
        """Return the published revision once it is above ``revision``, the log was reset, or a nudge came.

        Raises:
            ConnectionResetError: the feed has ended.
        """
        nudges = self._nudges
        while self._nudges == nudges:
            self.check()
            version = self._published.version
            if self.published != revision and (self.published > revision or revision > self.revision):
                break
            await self._published.newer(version)
        return self.published

    def nudge(self) -> None:
        """Let all who wait look around, though nothing changed."""
        self._nudges += 1
        self._published.set(self.published)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._last + self._gap - loop.time()
        if wait <= 0:
            self._gap = FIRST_GAP
            self._publish()
        else:
            self._timer = loop.call_later(wait, self._publish_together)

    def _publish_together(self) -> None:
        """The end of a gap: if it joined nothing, there was no need for so long a one."""
        joined = self.revision - self.published > 1
        self._gap = min(self._gap * 1.5, LAST_GAP) if joined else FIRST_GAP
        self._publish()

    def _publish(self) -> None:
        self._timer = None
        self._last = asyncio.get_running_loop().time()
        self._published.set(self.revision)
