"""The store that forgets: rules live as long as the process. For tests and for trying things out.

Its epoch is new with each process, so that no sidecar takes its revisions for those of an earlier one.
"""

import secrets
import uuid
from collections.abc import Iterable

from amalgam8.controller.rulebook import Change, Rulebook
from amalgam8.controller.store import Mirror
from amalgam8.model.errors import Superseded


class MemoryStore:
    """A Store without a store: the mirrors are all there is."""

    def __init__(self) -> None:
        self.epoch = uuid.uuid4().hex[:16]
        self.secret = secrets.token_bytes(32)
        self._mirrors: dict[str, Mirror] = {}

    def tenants(self) -> Iterable[str]:
        return [tenant for tenant, mirror in self._mirrors.items() if mirror.book.revision]

    async def load(self, tenant: str) -> Mirror:
        if tenant not in self._mirrors:
            self._mirrors[tenant] = Mirror(Rulebook())
        return self._mirrors[tenant]

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        mirror = await self.load(tenant)
        if mirror.book.revision != expected or change.revision != expected + 1:
            raise Superseded(
                f"the rules are at revision {mirror.book.revision}, this change was made for {expected}"
            )
        mirror.take(change)

    async def close(self) -> None:
        self._mirrors.clear()
