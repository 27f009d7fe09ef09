"""The store that forgets: rules live as long as the process. For tests and for trying things out.

Its epoch is new with each process, so that no sidecar takes its revisions for those of an earlier one.
"""

import secrets
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rollout_store import MemoryRollouts, RolloutStore
from amalgam8.controller.store import WHOLE_LOG, Alone, Mirror, not_empty, superseded
from amalgam8.model.caller import Caller

REVISIONS_KEPT = 1000


class MemoryStore(Alone):
    """A Store without a store: mirrors, and a log of ``kept`` revisions, are all there is."""

    def __init__(self, kept: int = REVISIONS_KEPT) -> None:
        self.epoch = uuid.uuid4().hex[:16]
        self.secret = secrets.token_bytes(32)
        self.rollouts: RolloutStore = MemoryRollouts()
        self._kept = kept
        self._mirrors: dict[str, Mirror] = {}
        self._logs: dict[str, deque[Change]] = {}

    def tenants(self) -> Iterable[str]:
        return [tenant for tenant, mirror in self._mirrors.items() if mirror.book.revision]

    def sidecars(self, tenant: str) -> Mapping[str, Caller]:  # noqa: ARG002 - nothing was there before
        return {}

    async def load(self, tenant: str) -> Mirror:
        if tenant not in self._mirrors:
            self._mirrors[tenant] = Mirror(Rulebook())
            self._logs[tenant] = deque(maxlen=self._kept)
        return self._mirrors[tenant]

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        mirror = await self.load(tenant)
        if mirror.book.revision != expected or change.revision != expected + 1:
            raise superseded(mirror.book.revision, expected)
        mirror.take(change)
        self._logs[tenant].appendleft(change)

    async def log(
        self, tenant: str, above: int = 0, below: int | None = None, limit: int = WHOLE_LOG
    ) -> list[Change]:
        upto = WHOLE_LOG if below is None else below
        found = [change for change in self._logs.get(tenant, ()) if above < change.revision < upto]
        return found[:limit]

    async def restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        mirror = await self.load(tenant)
        if mirror.book.revision:
            raise not_empty(mirror.book.revision)
        self._logs[tenant].extend(log[: self._kept])
        mirror.replace(book)

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        """Nothing outlives the process."""

    async def close(self) -> None:
        self._mirrors.clear()
        self._logs.clear()
