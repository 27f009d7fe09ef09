"""The store that several controllers share: Redis or Valkey, mirrored in the memory of each.

A script in the store decides which change is next; the log that it appends to is the stream that every
controller follows, so that each serves reads and watchers from its own memory. What sidecars report to one
is told to all. While the store is away, reads go on and writes are refused; a store that comes back without
its data is given what was mirrored, under another epoch.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from amalgam8.clients.redis_link import ANSWER_WITHIN, Argument, Link
from amalgam8.controller import redis_rows as rows
from amalgam8.controller import redis_scripts as scripts
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.redis_followed import Followed, whole
from amalgam8.controller.redis_rollouts import RedisRollouts
from amalgam8.controller.rollout_store import RolloutStore
from amalgam8.controller.store import WHOLE_LOG, Hearer, Mirror, Said, Words, not_empty, superseded
from amalgam8.model.caller import Caller
from amalgam8.model.errors import StoreUnavailable
from amalgam8.model.stored import check_form
from amalgam8.runtime.logs import Log

REVISIONS_KEPT = 10_000
PAGE = 500
"""Entries of the log that are read at once."""

BLOCK = 0.5

_log = Log("store")


class RedisStore:
    """A Store with a log of ``kept`` revisions; ``follow`` has to run beside it. ``now``: the wall clock."""

    shared = True
    waits = True

    def __init__(
        self, link: Link, *, kept: int = REVISIONS_KEPT, now: Callable[[], float] = time.time
    ) -> None:
        self.epoch = ""
        self.secret = b""
        self.rollouts: RolloutStore = RedisRollouts(self._run, self._join, lambda: list(self._followed))
        self._link = link
        self._kept = kept
        self._now = now
        self._name = secrets.token_hex(8)
        self._followed: dict[str, Followed] = {}
        self._heard: Hearer = lambda _tenant, _said: None
        self._news = "0-0"
        self._tried = asyncio.Event()
        self._fault: StoreUnavailable | None = None
        self._loading = asyncio.Lock()

    @property
    def up(self) -> bool:
        """Whether writes are taken just now."""
        return self._link.up

    def tenants(self) -> Iterable[str]:
        return [name for name, one in self._followed.items() if one.mirror.book.revision]

    def sidecars(self, tenant: str) -> Mapping[str, Caller]:
        return dict(self._followed[tenant].roster) if tenant in self._followed else {}

    def said(self, tenant: str) -> Iterable[Said]:
        return list(self._followed[tenant].words.values()) if tenant in self._followed else ()

    def listen(self, hearer: Hearer) -> None:
        self._heard = hearer

    async def load(self, tenant: str) -> Mirror:
        return (await self._found(tenant)).mirror

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        one = await self._found(tenant)
        before = one.mirror.book
        if before.revision != expected or change.revision != expected + 1:
            raise superseded(before.revision, expected)
        book = apply(before, change)
        gone = [rule.id for rule in change.before if rule.id not in book.rules]
        stamp = secrets.token_hex(8)
        if not expected:
            await self._join(tenant)
        own: list[Argument] = [
            book.newest,
            rows.encode(book.unconfirmed),
            stamp,
            expected,
            self._kept,
            rows.encode(change),
        ]
        coming = rows.pairs(change.after, book)
        status, *rest = await self._script(scripts.APPEND, one, *own, len(gone), *gone, *coming)
        if status == b"superseded":
            await self._reaches(one, int(rest[0]))
            raise superseded(int(rest[0]), expected)
        one.take(rows.Entry(change.revision, change, stamp))

    async def log(
        self, tenant: str, above: int = 0, below: int | None = None, limit: int = WHOLE_LOG
    ) -> list[Change]:
        one = await self._found(tenant)
        found: list[Change] = []
        highest = one.mirror.book.revision if below is None else min(below - 1, one.mirror.book.revision)
        while highest > max(above, 0) and len(found) < limit:
            wanted = min(PAGE, limit - len(found))
            _, reply = await self._script(scripts.HISTORY, one, highest, max(above, 0) + 1, wanted)
            entries = rows.entries_of(reply)
            found += [entry.change for entry in entries if entry.change is not None]
            if len(entries) < wanted:
                break
            highest = entries[-1].revision - 1
        return found

    async def restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        one = await self._found(tenant)
        if one.mirror.book.revision:
            raise not_empty(one.mirror.book.revision)
        await self._join(tenant)
        kept = [change for change in log if change.revision > book.revision - self._kept]
        stamp = secrets.token_hex(8)
        status, *rest = await self._script(
            scripts.RESTORE, one, *whole(book, kept[::-1], stamp, lost=False), unless_lost=False
        )
        if status == b"kept":
            await self._reaches(one, int(rest[0]))
            raise not_empty(int(rest[0]))
        one.replace(book, stamp)

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        await self._tell(await self._found(tenant), news, Words())

    async def tell(self, tenant: str, words: Words) -> None:
        await self._tell(await self._found(tenant), {}, words)

    async def current(self, tenant: str) -> None:
        one = await self._found(tenant)
        _, revision = await self._script(scripts.REVISION, one)
        await self._reaches(one, int(revision))

    async def tried(self) -> None:
        """Return once the store was reached, or could not be."""
        await self._tried.wait()

    async def follow(self) -> None:
        """Keep the mirrors up to the store until cancelled; tries again for ever."""
        await self._link.follow(self._begin_again, self._read, self._tried)

    async def _begin_again(self) -> None:
        self._fault = None
        await self._synchronize()

    async def close(self) -> None:
        """Whoever made the link closes it."""

    async def _synchronize(self) -> None:
        """After each connection: is it the store that was mirrored? Then go on, else begin anew."""
        await self._link.load()
        known, followed = self.epoch, list(self._followed.values())
        epoch, tenants = await self._begin(known, replace=False)
        if epoch == known and not await self._same(followed):
            epoch, tenants = await self._begin(known, replace=True)
        anew = epoch != known
        if anew and known:
            _log.warning("the store has lost data; restoring what is missing", before=known, epoch=epoch)
            for one in followed:
                await self._give_back(one, epoch)
            tenants |= {one.tenant for one in followed if one.mirror.book.revision}
        wanted = tenants | {one.tenant for one in followed} if anew else tenants - {*self._followed}
        snapshots = {tenant: await self._snapshot(tenant, epoch, adopt=True) for tenant in sorted(wanted)}
        # All at once, so that nobody is told of one epoch and shown another.
        self.epoch = epoch
        for tenant, snapshot in snapshots.items():
            self._show(tenant, snapshot, anew=bool(anew and known))

    async def _begin(self, known: str, *, replace: bool) -> tuple[str, set[str]]:
        form, *reply = await self._link.run(
            scripts.BEGIN,
            [scripts.EPOCH, scripts.SECRET, scripts.TENANTS, scripts.NEWS, scripts.FORM_KEY],
            *(secrets.token_hex(8), known if replace else "", self.secret or secrets.token_bytes(32)),
            scripts.FORM,
        )
        check_form(form, scripts.FORM, we="this controller")
        epoch, secret, news, tenants, durable = reply
        if not durable and not self.epoch:
            _log.warning(
                "the store writes no append-only file, so rules that were acknowledged can be lost with it",
                remedy="appendonly yes",
            )
        self.secret, self._news = secret, news.decode()
        return epoch.decode(), {tenant.decode() for tenant in tenants}

    async def _same(self, followed: Iterable[Followed]) -> bool:
        calls: list[tuple[str, list[str], list[Argument]]] = [
            (scripts.CHECK, one.keys, [self.epoch, one.seen, one.stamp]) for one in followed
        ]
        return all(status == b"done" for status, *_ in await self._link.run_each(calls)) if calls else True

    async def _give_back(self, one: Followed, epoch: str) -> None:
        """Restore a tenant in a store that lost it, unless it has as much already."""
        if not (book := one.mirror.book).revision:
            return
        own = whole(book, one.recent(), one.stamp, lost=True)
        status, *rest = await self._link.run(scripts.RESTORE, one.keys, epoch, one.seen, *own)
        if status == b"kept":
            _log.info("another controller restored", tenant=one.tenant, revision=int(rest[0]))
        await self._link.run(scripts.JOIN, [scripts.TENANTS, scripts.NEWS], one.tenant)
        told = rows.told_of(one.roster, Words(), self._now())
        await self._link.run(scripts.TELL, one.keys, epoch, 0, "", *rows.arguments(told))

    async def _snapshot(self, tenant: str, epoch: str, *, adopt: bool = False) -> rows.Snapshot:
        keys = scripts.keys_of(tenant)
        status, *rest = await self._link.run(scripts.LOAD, keys, epoch, 0, "adopt" if adopt else "")
        _found(status)
        return rows.snapshot_of(rest)

    def _show(self, tenant: str, snapshot: rows.Snapshot, *, anew: bool = False) -> Followed:
        one = self._followed.get(tenant)
        if one is None:
            one = self._followed[tenant] = Followed(tenant, snapshot)
        else:
            one.load(snapshot, anew=anew)
        for said in snapshot.said:
            self._take(one, said)
        return one

    async def _read(self) -> None:
        """Wait for entries, a while at the most, and apply them."""
        if self._fault is not None:
            raise self._fault
        followed = {one.log_key: one for one in self._followed.values()}
        news = {one.said_key: one for one in self._followed.values()}
        places = {key: f"{one.seen}-0" for key, one in followed.items()}
        places |= {key: one.said_to for key, one in news.items()}
        for name, entries in await self._link.read({scripts.NEWS: self._news, **places}, BLOCK):
            if name == scripts.NEWS:
                for place, fields in entries:
                    self._news = place.decode()
                    await self._told(fields)
            elif name in followed:
                one = followed[name]
                if not all(one.take(rows.entry_of(*entry)) for entry in entries):
                    self._show(one.tenant, await self._snapshot(one.tenant, self.epoch))
            else:
                self._listen(news[name], entries)

    def _listen(self, one: Followed, entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for place, fields in entries:
            one.said_to = place.decode()
            if fields[b"from"] != self._name.encode():
                for said in rows.said_of(fields[b"told"]):
                    self._take(one, said)

    def _take(self, one: Followed, said: Said) -> None:
        one.keep(said)
        self._heard(one.tenant, said)

    async def _told(self, news: dict[bytes, bytes]) -> None:
        if b"tenant" in news:
            await self._found(news[b"tenant"].decode())
        elif news.get(b"epoch", b"").decode() != self.epoch:
            raise StoreUnavailable("the store has begun another epoch")

    async def _found(self, tenant: str) -> Followed:
        """The tenant, loaded if need be."""
        if tenant not in self._followed:
            if not self.epoch:
                await self._first()
            async with self._loading:
                if tenant not in self._followed:
                    self._show(tenant, await self._guarded(self._snapshot(tenant, self.epoch, adopt=True)))
        return self._followed[tenant]

    async def _join(self, tenant: str) -> None:
        """Let every controller know of the tenant."""
        await self._found(tenant)
        await self._run(scripts.JOIN, [scripts.TENANTS, scripts.NEWS], tenant)

    async def _first(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await self.tried()
        except TimeoutError:
            pass
        if not self.epoch:
            raise StoreUnavailable("the store was not reached yet; what the rules are is not known")

    async def _tell(self, one: Followed, roster: Mapping[str, Caller | None], words: Words) -> None:
        told = rows.told_of(roster, words, self._now())
        await self._script(scripts.TELL, one, self._name, *rows.arguments(told))
        for said in rows.said_of(rows.encode(told)):
            one.keep(said)

    async def _script(self, script: str, one: Followed, *own: Argument, unless_lost: bool = True) -> Any:
        """Run a script on a tenant; raises StoreUnavailable where the store is away or has lost data."""
        if not self._link.up:
            raise StoreUnavailable("the store cannot be used just now; try again")
        reply = await self._run(script, one.keys, self.epoch, one.seen, *own)
        if unless_lost and reply[0] == b"lost":
            self._suspect(error := StoreUnavailable("the store has lost data; try again"))
            raise error
        return reply

    async def _run(self, script: str, keys: Sequence[str], *arguments: Argument) -> Any:
        return await self._guarded(self._link.run(script, keys, *arguments))

    async def _guarded(self, asked: Any) -> Any:
        try:
            return await asked
        except StoreUnavailable as error:
            self._suspect(error)
            raise

    async def _reaches(self, one: Followed, revision: int) -> None:
        """Others wrote before: their entries are on the way."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                await one.reaches(revision)
        except TimeoutError:
            self._show(one.tenant, await self._guarded(self._snapshot(one.tenant, self.epoch)))

    def _suspect(self, error: StoreUnavailable) -> None:
        """Something went wrong: refuse writes until the store was looked at again."""
        if self._link.up and self._fault is None:
            self._fault = error
            self._link.is_down(str(error))


def _found(status: bytes) -> None:
    if status == b"lost":
        raise StoreUnavailable("the store has lost data; try again")
