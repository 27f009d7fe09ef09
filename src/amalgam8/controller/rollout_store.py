"""Where rollouts are kept: what is asked of a store, and the one in memory.

A record is taken only as the edition that follows the stored one, so that two controllers never both write
one. ``lead`` says which of several controllers on one store drives rollouts. Refuses to know what a rollout
does.
"""

from collections.abc import Iterable
from typing import Protocol

from amalgam8.controller.rollout import Rollout
from amalgam8.model.errors import Superseded

ENDED_KEPT = 100
"""Rollouts of one tenant that are over and still shown."""


class RolloutStore(Protocol):
    """Rollouts of many tenants. Each method raises StoreUnavailable where the store cannot be used."""

    async def all(self, tenant: str) -> list[Rollout]:
        """The tenant's, the newest first."""

    async def active(self) -> list[tuple[str, Rollout]]:
        """Those of all tenants that are not over, with the tenant's name."""

    async def put(self, tenant: str, rollout: Rollout) -> None:
        """Keep the next edition of a rollout, 1 for a new one; once this returns, it is as safe as a rule.

        Raises:
            Superseded: the store has another edition than the one before; nothing was written.
        """

    async def lead(self, holder: str, seconds: float) -> bool:
        """Whether ``holder`` is the one that drives rollouts for the next ``seconds``.

        A store that only one controller can have open says yes.
        """


class MemoryRollouts:
    """A RolloutStore that forgets with the process; also the mirror of one that does not."""

    def __init__(self, found: Iterable[tuple[str, Rollout]] = ()) -> None:
        self._tenants: dict[str, dict[str, Rollout]] = {}
        for tenant, rollout in found:
            self._tenants.setdefault(tenant, {})[rollout.id] = rollout

    async def all(self, tenant: str) -> list[Rollout]:
        return newest_first(self._tenants.get(tenant, {}).values())

    async def active(self) -> list[tuple[str, Rollout]]:
        return [
            (tenant, rollout)
            for tenant, found in self._tenants.items()
            for rollout in found.values()
            if rollout.active
        ]

    async def put(self, tenant: str, rollout: Rollout) -> None:
        self.check(tenant, rollout)
        self.take(tenant, rollout)

    async def lead(self, holder: str, seconds: float) -> bool:  # noqa: ARG002 - nobody else is there
        return True

    def check(self, tenant: str, rollout: Rollout) -> None:
        """Refuse any edition but the next; raises Superseded."""
        known = self._tenants.get(tenant, {}).get(rollout.id)
        stored = known.edition if known else 0
        if rollout.edition != stored + 1:
            raise Superseded(
                f"rollout {rollout.id} is at edition {stored}, not at {rollout.edition - 1}: somebody else"
                " wrote first"
            )

    def take(self, tenant: str, rollout: Rollout) -> list[str]:
        """Show the edition; returns the ids of rollouts that are not kept any more."""
        found = self._tenants.setdefault(tenant, {})
        found[rollout.id] = rollout
        gone = [one.id for one in newest_first(one for one in found.values() if not one.active)][ENDED_KEPT:]
        for identity in gone:
            del found[identity]
        return gone


def newest_first(rollouts: Iterable[Rollout]) -> list[Rollout]:
    return sorted(rollouts, key=lambda rollout: (rollout.created, rollout.id), reverse=True)
