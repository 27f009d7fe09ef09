"""Self-preservation: when so many leases lapse at once that the fault is rather the network's than theirs.

Stale beats empty. Expiry of one tenant freezes as a lease lapses while many others are late; it ends when
enough of them have been renewed again for as long as the rest needs to follow, or after a limit. What was
held to the end then goes, without starting another freeze. Pure: driven by the time and counts it is handed.
"""

from typing import Literal

import msgspec

LATE_AFTER = 2 / 3
"""Share of its ttl after which a lease without renewal is late: a sidecar has missed two renewals then."""

RENEWALS = 3
"""How often a sidecar renews within a ttl."""

SHARE = 0.15
LEAST = 5
"""Expiry freezes where at least this share, and at least so many, of a tenant's leases are late."""

LIMIT = 600.0
"""Seconds that a freeze lasts at the most, by default."""

Turn = Literal["", "frozen", "recovered", "ran out"]


class Step(msgspec.Struct, frozen=True):
    """Whether what has lapsed is held, and what has just begun or ended."""

    hold: bool
    turn: Turn = ""


def endangered(late: int, total: int) -> bool:
    """Whether so many of ``total`` leases are late that none of them may go."""
    return late >= LEAST and late >= SHARE * total


class Preservation:
    """One tenant's. ``limit`` (s) is the longest freeze; 0: expiry never freezes."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._since: float | None = None
        self._calm: float | None = None

    def step(self, now: float, *, lapsed: int, late: int, total: int, period: float) -> Step:
        """Decide on what has lapsed by ``now``; ``late`` includes it.

        To be called whenever something has lapsed, and again and again while frozen. ``period`` (s) is how
        long those that are held may take for a renewal: once an outage is over they come back one by one,
        and whoever has not had his turn yet is not to be ended.
        """
        danger = self._limit > 0 and endangered(late, total)
        if self._since is None:
            if not lapsed or not danger:
                return Step(False)
            self._since = now
            return Step(True, "frozen")
        if danger:
            self._calm = None
        elif self._calm is None:
            self._calm = now
        calm = self._calm is not None and (not lapsed or now - self._calm >= period)
        if not calm and now - self._since < self._limit:
            return Step(True)
        self._since = self._calm = None
        return Step(False, "recovered" if calm else "ran out")
