"""Rollouts in the shared store, one hash for each tenant; a lease says which controller drives them.

Reads ask the store: rollouts are few, and whoever drives one has to know what another controller did.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from amalgam8.controller import redis_scripts as scripts
from amalgam8.controller.rollout import Rollout
from amalgam8.controller.rollout_store import ENDED_KEPT, newest_first
from amalgam8.model.errors import StoreUnavailable, Superseded

Run = Callable[..., Awaitable[Any]]
"""Runs a script on keys with arguments; raises StoreUnavailable."""

_decode = msgspec.json.Decoder(Rollout).decode


class RedisRollouts:
    """A RolloutStore. ``join`` makes a tenant known to all controllers; ``tenants`` names those that are."""

    def __init__(
        self, run: Run, join: Callable[[str], Awaitable[object]], tenants: Callable[[], Iterable[str]]
    ) -> None:
        self._run = run
        self._join = join
        self._tenants = tenants

    async def all(self, tenant: str) -> list[Rollout]:
        found = await self._run(scripts.ROLLOUTS, [scripts.rollouts_of(tenant)])
        return newest_first(_rollouts(found))

    async def active(self) -> list[tuple[str, Rollout]]:
        return [
            (tenant, rollout)
            for tenant in self._tenants()
            for rollout in await self.all(tenant)
            if rollout.active
        ]

    async def put(self, tenant: str, rollout: Rollout) -> None:
        others = [one for one in await self.all(tenant) if one.id != rollout.id]
        over = newest_first(one for one in [*others, rollout] if not one.active)
        gone = [one.id for one in over[ENDED_KEPT:]]
        await self._join(tenant)
        own = [rollout.id, rollout.edition, msgspec.json.encode(rollout), *gone]
        status, *rest = await self._run(scripts.ROLLOUT, [scripts.rollouts_of(tenant)], *own)
        if status == b"superseded":
            raise Superseded(
                f"rollout {rollout.id} is at edition {int(rest[0])}, not at {rollout.edition - 1}: somebody"
                " else wrote first"
            )

    async def lead(self, holder: str, seconds: float) -> bool:
        return bool(await self._run(scripts.LEAD, [scripts.LEADER], holder, round(seconds * 1000)))


def _rollouts(found: Sequence[bytes]) -> list[Rollout]:
    try:
        return [_decode(text.partition(b" ")[2]) for text in found]
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"a rollout in the store cannot be read: {error}") from None
