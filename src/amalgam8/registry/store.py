"""What a registry store is. ``tests/contracts/registry_store.py`` holds every store to it.

Writes are asynchronous and each is decided at one place, atomically: whether an instance is new, whether
there is room for it, whether a lease still holds. Reads come from a View in memory that the store keeps
up to date: they never wait. A store says what has happened to whoever observes it, once.
"""

from collections.abc import Callable, Collection
from typing import Literal, Protocol

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.view import View

What = Literal["registered", "changed", "renewed", "removed", "expired", "frozen", "thawed"]


class Happened(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened to a lease; for logs, metrics and the history. ``renewed`` is no change.

    ``frozen`` and ``thawed`` are about a tenant's expiry, and name no lease. ``status`` is what the lease has
    or had; ``count`` renewals are told at once.
    """

    tenant: str
    what: What
    service: str
    id: str
    status: str = ""
    reason: str = ""
    count: int = 1


Observer = Callable[[Happened], None]


class Store(Protocol):
    """Leases of all tenants. Every write may raise StoreUnavailable."""

    @property
    def epoch(self) -> str:
        """Names the memory that revisions count in; another one after that was lost."""

    @property
    def waits(self) -> bool:
        """Whether writes may have to wait; where not, their coroutines run through without a pause."""

    def tenants(self) -> Collection[str]:
        """Tenants that were ever asked for."""

    def view(self, tenant: str) -> View:
        """The tenant's instances; a tenant comes to be when it is first asked for.

        Raises:
            StoreUnavailable: the store was never reached, so that nothing is known.
        """

    async def register(self, tenant: str, instance: Instance) -> None:
        """Take an instance, or all its content anew, and renew its lease.

        Equal content is no change. An instance that is known already does not count against the capacity.

        Raises:
            CapacityExceeded: it is new, and the tenant has no room.
        """

    async def renew(self, tenant: str, identity: str) -> None:
        """Renew a lease.

        Raises:
            InstanceGone: there is none of that id (any more).
        """

    async def amend(self, tenant: str, identity: str, change: Callable[[Instance], Instance]) -> None:
        """Put ``change`` of the content in its place, atomically, and renew the lease.

        ``change`` is pure and keeps id, service and endpoint; it may be called more than once. What it
        raises is raised, and nothing has changed.

        Raises:
            InstanceGone: there is none of that id (any more).
        """

    async def remove(self, tenant: str, identity: str) -> None:
        """End a lease.

        Raises:
            InstanceGone: there is none of that id (any more).
        """

    async def expire(self) -> int:
        """End the leases that have lapsed and say how many; to be called again and again."""
