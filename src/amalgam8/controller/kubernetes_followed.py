"""One tenant of a store in Kubernetes as a controller follows it: its mirror, and the changes that are kept.

Refuses nothing: whether a revision is the next one is for the store to see.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amalgam8.catalogs.kubernetes.objects import Key
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.store import Mirror
from amalgam8.runtime.latest import Latest


class Followed:
    """One tenant: its mirror, and the changes that are kept, oldest first."""

    def __init__(self, book: Rulebook, log: Iterable[Change], kept: int) -> None:
        self.log: deque[Change] = deque(log, maxlen=kept)
        self.mirror = Mirror(book, [(change.revision, change.destinations) for change in self.log])
        self._moved = Latest(book.revision)

    @property
    def seen(self) -> int:
        return self.mirror.book.revision

    def take(self, change: Change) -> None:
        self.mirror.take(change)
        self.log.append(change)
        self._moved.set(self.seen)

    def replace(self, book: Rulebook, log: Iterable[Change]) -> None:
        """Become another book; one that goes back is another line of revisions."""
        self.log = deque(log, maxlen=self.log.maxlen)
        self.mirror.replace(book, anew=book.revision < self.seen)
        self._moved.set(self.seen)

    async def reaches(self, revision: int) -> None:
        """Return once the mirror is there; cancel to stop waiting."""
        while self.seen < revision:
            await self._moved.newer(self._moved.version)


class Sink:
    """Hands on what a reflector tells."""

    def __init__(
        self,
        replaced: Callable[[Mapping[Key, Any]], None],
        changed: Callable[[Key, Any], None],
        failed: Callable[[str], None],
    ) -> None:
        self.replaced = replaced
        self.changed = changed
        self.failed = failed

    def alive(self) -> None:
        """What was told is true now: no news."""
