"""The store that several registries share: Redis or Valkey, mirrored in the memory of each.

Scripts in the store decide; what they decide goes into a stream per tenant, and every registry applies it
to its own views, from which it reads. While the store is away, reads go on and writes are refused; a store
that comes back without its data is given what was mirrored, under another epoch. Refuses to answer before
it has seen the store once.
"""

import asyncio
import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from amalgam8.clients.redis_link import ANSWER_WITHIN, Link
from amalgam8.model.errors import CapacityExceeded, InstanceGone, StoreUnavailable
from amalgam8.model.instance import Instance
from amalgam8.model.stored import check_form
from amalgam8.registry import redis_scripts as scripts
from amalgam8.registry.memory import UNLIMITED
from amalgam8.registry.redis_mirror import (
    Mirror,
    Snapshot,
    decode_instance,
    entry_of_reply,
    entry_of_stream,
    seconds_of,
    snapshot_of_reply,
    times,
)
from amalgam8.registry.store import Happened, Observer
from amalgam8.registry.view import View
from amalgam8.runtime.logs import Log

PAUSE = 1.0
"""Seconds without a script after which leases stand still until the next; looks come 4 times a second."""

LENGTH = 4096
"""Entries that a stream keeps, about; a registry that is further behind loads a snapshot."""

EXPIRED_AT_ONCE = 1000
BLOCK = 0.5
ATTEMPTS = 10

_log = Log("registry.redis")


class RedisStore:
    """A Store; ``follow`` has to run beside it.

    ``now`` stands in for the server's clock (Unix seconds). ``pause`` as PAUSE; None: leases never stand
    still. ``freeze_limit``: seconds for which expiry may freeze; 0: it never does.
    """

    waits = True

    def __init__(
        self,
        link: Link,
        *,
        capacity: int = UNLIMITED,
        observe: Observer = lambda _happened: None,
        now: Callable[[], float] | None = None,
        pause: float | None = PAUSE,
        freeze_limit: float = 0.0,
        length: int = LENGTH,
    ) -> None:
        self.epoch = ""
        self._link = link
        self._capacity = capacity
        self._observe = observe
        self._now = now
        self._pause = "" if pause is None else str(round(pause * scripts.SECOND))
        self._freeze = str(round(freeze_limit * scripts.SECOND)) if freeze_limit else ""
        self._length = length
        self._mirrors: dict[str, Mirror] = {}
        self._news = "0-0"
        self._tried = asyncio.Event()
        self._fault: StoreUnavailable | None = None
        self._joining = asyncio.Lock()

    @property
    def up(self) -> bool:
        """Whether writes are taken just now."""
        return self._link.up

    def tenants(self) -> Collection[str]:
        return self._mirrors.keys()

    def view(self, tenant: str) -> View:
        if not self.epoch:
            raise StoreUnavailable("the store was not reached yet; what is registered is not known")
        return self._mirror(tenant).view

    def frozen(self, tenant: str) -> bool:
        """Whether expiry is frozen, as of the last look."""
        return self._mirror(tenant).frozen

    async def register(self, tenant: str, instance: Instance) -> None:
        body = msgspec.json.encode(instance)
        status, *rest = await self._write(
            scripts.REGISTER, tenant, instance.id, seconds_of(instance), body, self._capacity
        )
        if status == b"full":
            raise CapacityExceeded(f"there is no room for more than {self._capacity} instances")
        await self._done(tenant, status, rest, instance.id)

    async def renew(self, tenant: str, identity: str) -> None:
        status, wall, unknown = await self._write(scripts.RENEW, tenant, identity)
        if unknown:
            raise _gone(identity)
        await self._done(tenant, status, [wall], identity)

    async def renew_many(self, tenant: str, ids: Sequence[str]) -> list[str]:
        """Renew leases at once; returns the ids that are not known (any more)."""
        _, wall, unknown = await self._write(scripts.RENEW, tenant, *ids)
        missing = {identity.decode() for identity in unknown}
        known = [one for one in ids if one not in missing]
        for identity in known:
            self._mirror(tenant).renewed(identity, int(wall))
        if known:
            self._observe(Happened(tenant, "renewed", "", "", count=len(known)))
        return [one for one in ids if one in missing]

    async def amend(self, tenant: str, identity: str, change: Callable[[Instance], Instance]) -> None:
        # What is amended is the mirror's; where the store has another by now, it says so and what it has.
        lease = self.view(tenant).get(identity)
        before = b"" if lease is None else msgspec.json.encode(lease.instance)
        for _ in range(ATTEMPTS):
            seconds, after = 0, b""
            if before:
                changed = change(decode_instance(before))
                seconds, after = seconds_of(changed), msgspec.json.encode(changed)
            status, *rest = await self._write(scripts.REPLACE, tenant, identity, seconds, after, before)
            if status == b"gone":
                raise _gone(identity)
            if status != b"stale":
                await self._done(tenant, status, rest, identity)
                return
            before = rest[0]
        raise StoreUnavailable("others change this instance all the time; try again")

    async def remove(self, tenant: str, identity: str) -> None:
        status, *rest = await self._write(scripts.REMOVE, tenant, identity)
        if status == b"gone":
            raise _gone(identity)
        await self._done(tenant, status, rest, identity)

    async def expire(self) -> int:
        """As a Store's; 0 while the store is away, where leases stand still."""
        count = 0
        looked = [mirror for mirror in self._mirrors.values() if mirror.loaded and len(mirror.view)]
        while looked and self._link.up:
            calls = [
                (scripts.EXPIRE, one.keys, self._arguments(one, EXPIRED_AT_ONCE, one.heard_to, self._freeze))
                for one in looked
            ]
            try:
                replies = await self._link.run_each(calls)
                full = []
                for mirror, reply in zip(looked, replies, strict=True):
                    _found(reply[0])
                    expired = await self._expired(mirror, *reply[1:])
                    count += expired
                    if expired == EXPIRED_AT_ONCE:
                        full.append(mirror)
            except StoreUnavailable as error:
                self._suspect(error)
                break
            looked = full
        return count

    async def tried(self) -> None:
        """Return once the store was reached, or could not be."""
        await self._tried.wait()

    async def follow(self) -> None:
        """Keep the mirrors up to the store until cancelled; tries again for ever."""
        await self._link.follow(self._begin_again, self._read, self._tried)

    async def _begin_again(self) -> None:
        self._fault = None
        await self._synchronize()

    async def _synchronize(self) -> None:
        """After each connection: is it the store that was mirrored? Then go on, else begin anew."""
        await self._link.load()
        known = self.epoch
        epoch, tenants = await self._begin(known, replace=False)
        loaded = [mirror for mirror in self._mirrors.values() if mirror.loaded]
        if epoch == known and not await self._same(loaded):
            epoch, tenants = await self._begin(known, replace=True)
        anew = epoch != known
        if anew and known:
            _log.warning("the store has lost data; restoring what is missing", before=known, epoch=epoch)
            for mirror in loaded:
                arguments = self._arguments(mirror, *mirror.contents(), epoch=epoch)
                await self._link.run(scripts.RESTORE, mirror.keys, *arguments)
                await self._link.run(scripts.JOIN, [scripts.TENANTS, scripts.NEWS], mirror.tenant)
        before = {mirror.tenant for mirror in loaded}
        wanted = [self._mirror(one) for one in sorted(before | tenants if anew else tenants - before)]
        snapshots = [await self._snapshot(mirror, epoch, adopt=True) for mirror in wanted]
        # All at once, so that nobody is told of one epoch and shown another.
        self.epoch = epoch
        for mirror, snapshot in zip(wanted, snapshots, strict=True):
            mirror.replace(snapshot, anew=bool(anew and known), quiet=not known)

    async def _begin(self, known: str, *, replace: bool) -> tuple[str, set[str]]:
        form, *reply = await self._link.run(
            scripts.BEGIN,
            [scripts.EPOCH, scripts.TENANTS, scripts.NEWS, scripts.FORM_KEY],
            *(secrets.token_hex(8), known if replace else "", scripts.FORM),
        )
        check_form(form, scripts.FORM, we="this registry")
        epoch, news, tenants = reply
        self._news = news.decode()
        return epoch.decode(), {tenant.decode() for tenant in tenants}

    async def _same(self, mirrors: Iterable[Mirror]) -> bool:
        calls = [(scripts.CHECK, one.keys, self._arguments(one, one.stamp)) for one in mirrors]
        return all(status == b"done" for status, *_ in await self._link.run_each(calls)) if calls else True

    async def _snapshot(self, mirror: Mirror, epoch: str, *, adopt: bool = False) -> Snapshot:
        arguments = self._arguments(mirror, "adopt" if adopt else "", epoch=epoch)
        status, *rest = await self._link.run(scripts.LOAD, mirror.keys, *arguments)
        _found(status)
        return snapshot_of_reply(rest)

    async def _load(self, mirror: Mirror) -> None:
        """Fill a mirror that is new, or that has missed something."""
        epoch = self.epoch
        snapshot = await self._snapshot(mirror, epoch)
        if epoch == self.epoch:
            mirror.replace(snapshot)

    async def _read(self) -> None:
        """Wait for entries, a while at the most, and apply them."""
        if self._fault is not None:
            raise self._fault
        mirrors = {mirror.keys[-1]: mirror for mirror in self._mirrors.values() if mirror.loaded}
        places = {name: f"{mirror.seen}-0" for name, mirror in mirrors.items()}
        for name, entries in await self._link.read({scripts.NEWS: self._news, **places}, BLOCK):
            if name == scripts.NEWS:
                for place, fields in entries:
                    self._news = place.decode()
                    await self._told(fields)
            elif not all(mirrors[name].apply(entry_of_stream(*entry)) for entry in entries):
                await self._load(mirrors[name])

    async def _told(self, news: dict[bytes, bytes]) -> None:
        if b"tenant" in news:
            # Not beside a write that joins the same tenant: its entries would be forgotten for a snapshot.
            await self._join(self._mirror(news[b"tenant"].decode()))
        elif news.get(b"epoch", b"").decode() != self.epoch:
            raise StoreUnavailable("the store has begun another epoch")

    async def _write(self, script: str, tenant: str, *own: str | bytes | int) -> Any:
        """Run a script that writes; its status is none that every script may have."""
        mirror = self._mirror(tenant)
        try:
            if not self._tried.is_set():
                async with asyncio.timeout(ANSWER_WITHIN):
                    await self.tried()
            if not self._link.up:
                raise StoreUnavailable("the store cannot be used just now; try again")
            if not mirror.loaded:
                await self._join(mirror)
            reply = await self._link.run(script, mirror.keys, *self._arguments(mirror, *own))
            _found(reply[0])
        except TimeoutError:
            raise StoreUnavailable("the store was not reached yet; try again") from None
        except StoreUnavailable as error:
            self._suspect(error)
            raise
        return reply

    async def _join(self, mirror: Mirror) -> None:
        async with self._joining:
            if not mirror.loaded:
                await self._link.run(scripts.JOIN, [scripts.TENANTS, scripts.NEWS], mirror.tenant)
                await self._load(mirror)

    async def _done(self, tenant: str, status: bytes, rest: list[Any], identity: str) -> None:
        """Show what a script did, before whoever asked is told."""
        mirror = self._mirror(tenant)
        if status == b"renewed":
            mirror.renewed(identity, int(rest[0]))
            if (lease := mirror.view.get(identity)) is not None:
                mirror.told("renewed", lease)
        elif not mirror.apply(entry := entry_of_reply(rest[0])):
            await self._reaches(mirror, entry.revision)

    async def _expired(self, mirror: Mirror, entries: list[Any], heard: list[bytes], frozen: int) -> int:
        mirror.freezes(bool(frozen))
        for identity, at in times(heard).items():
            mirror.renewed(identity, at)
            mirror.heard_to = max(mirror.heard_to, at)
        for reply in entries:
            if not mirror.apply(entry := entry_of_reply(reply)):
                await self._reaches(mirror, entry.revision)
        return len(entries)

    async def _reaches(self, mirror: Mirror, revision: int) -> None:
        """Others wrote before: their entries are on the way."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await mirror.reaches(revision)
        except TimeoutError:
            await self._load(mirror)

    def _suspect(self, error: StoreUnavailable) -> None:
        """Something went wrong: refuse writes until the store was looked at again."""
        if self._link.up and self._fault is None:
            self._fault = error
            self._link.is_down(str(error))

    def _arguments(
        self, mirror: Mirror, *own: str | bytes | int, epoch: str | None = None
    ) -> list[str | bytes | int]:
        now = "" if self._now is None else str(round(self._now() * scripts.SECOND))
        named = self.epoch if epoch is None else epoch
        return [now, self._pause, named, mirror.seen, self._length, *own]

    def _mirror(self, tenant: str) -> Mirror:
        found = self._mirrors.get(tenant)
        if found is None:
            found = self._mirrors[tenant] = Mirror(tenant, self._observe)
        return found


def _found(status: bytes) -> None:
    if status == b"lost":
        raise StoreUnavailable("the store has lost data; try again")


def _gone(identity: str) -> InstanceGone:
    return InstanceGone(f"there is no instance with the id {identity[:64]!r} (any more); register it again")
