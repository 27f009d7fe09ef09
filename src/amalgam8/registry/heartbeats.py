"""Renewing many leases in one request.

Wire format: ``PUT /api/v1/heartbeats`` with ``{"ids": [...]}``, answered ``{"unknown": [...]}``. Refuses
more than IDS_LIMIT ids, which is what fits into a body.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from amalgam8.model.errors import InstanceGone, InvalidJson, TooManyIds
from amalgam8.registry.store import Store

IDS_LIMIT = 3000


class Heartbeats(msgspec.Struct, frozen=True):
    ids: list[str]


class Unknown(msgspec.Struct, frozen=True):
    """Ids whose leases are not known (any more): register again."""

    unknown: list[str]


@runtime_checkable
class RenewsMany(Protocol):
    """A store that can renew many leases at less cost than one by one."""

    async def renew_many(self, tenant: str, ids: Sequence[str]) -> list[str]:
        """Renew them; returns those that are unknown, in the same order."""


_DECODER = msgspec.json.Decoder(Heartbeats)


def read_heartbeats(body: bytes) -> list[str]:
    """The ids.

    Raises:
        InvalidJson: the body is something else.
        TooManyIds: more than IDS_LIMIT.
    """
    try:
        ids = _DECODER.decode(body).ids
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f'the body must be {{"ids": ["…"]}}: {error}') from None
    if len(ids) > IDS_LIMIT:
        raise TooManyIds(f"{len(ids)} ids; one request may renew {IDS_LIMIT}")
    return ids


async def renew_many(store: Store, tenant: str, ids: Sequence[str]) -> Unknown:
    """Renew what is there. May raise StoreUnavailable; some may have been renewed then."""
    if isinstance(store, RenewsMany):
        return Unknown(await store.renew_many(tenant, ids))
    unknown = []
    for identity in ids:
        try:
            await store.renew(tenant, identity)
        except InstanceGone:
            unknown.append(identity)
    return Unknown(unknown)
