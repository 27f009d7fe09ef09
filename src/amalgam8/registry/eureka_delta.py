"""What has changed of late, for ``GET /apps/delta`` of the Eureka API. Pure; driven by the time it is handed.

Of each instance the last change within RETENTION counts, in the order in which they came. Changes that are
no longer known here make the ring incomplete until they would have lapsed; a client is then told a hash code
that no client has, and fetches everything.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.view import Change

RETENTION = 180.0
"""Seconds; clients ask every 30."""

LENGTH = 10_000

Action = Literal["ADDED", "MODIFIED", "DELETED"]


class Recent(msgspec.Struct, frozen=True):
    """The last change of an instance; ``last`` is what it was where it is DELETED."""

    at: float
    action: Action
    id: str
    last: Instance | None = None


class Ring:
    """The recent changes of one tenant. ``length`` bounds how many are kept."""

    def __init__(self, length: int = LENGTH) -> None:
        self._recent: dict[str, Recent] = {}
        self._length = length
        self._lost = float("-inf")

    def hear(self, change: Change | None, now: float) -> None:
        """Take a change; None: some were missed."""
        if change is None:
            self.lose(now)
            return
        action: Action = "DELETED" if change.instance is None else "ADDED" if change.new else "MODIFIED"
        self._recent.pop(change.id, None)
        self._recent[change.id] = Recent(now, action, change.id, change.last)
        self._forget(now)

    def lose(self, now: float) -> None:
        """Changes up to now are not known."""
        self._recent.clear()
        self._lost = now

    def complete(self, now: float) -> bool:
        """Whether all changes within RETENTION are known."""
        return now - self._lost > RETENTION

    def recent(self, now: float) -> Iterable[Recent]:
        """Oldest first."""
        self._forget(now)
        return list(self._recent.values())

    def _forget(self, now: float) -> None:
        while self._recent:
            identity, recent = next(iter(self._recent.items()))
            if now - recent.at <= RETENTION:
                if len(self._recent) <= self._length:
                    return
                self._lost = recent.at
            del self._recent[identity]
