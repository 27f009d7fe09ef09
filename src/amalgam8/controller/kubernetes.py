"""The store in custom resources of Kubernetes: a change is an object that only one writer can create.

Every controller mirrors the RuleRevisions of its namespace and serves from that; RoutingRules are written
after them, for people, and what people change there becomes a revision by way of ``outside``. While the API
is away, reads go on and writes are refused. Refuses to start a history of its own where it sees none: it
waits for both collections to be listed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from amalgam8.catalogs.kubernetes.connect import Connection
from amalgam8.catalogs.kubernetes.objects import Key, Object, Page, decode
from amalgam8.catalogs.kubernetes.reflector import PAGE, Pace, Reflector
from amalgam8.clients.http import Answer, Refusal
from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.kubernetes_followed import Followed, Sink
from amalgam8.controller.kubernetes_keeper import Keeper
from amalgam8.controller.kubernetes_objects import Revision, RevisionObject, RuleObject
from amalgam8.controller.kubernetes_rollouts import KubernetesRollouts
from amalgam8.controller.kubernetes_state import Identity, Roster
from amalgam8.controller.outside import Edit
from amalgam8.controller.rollout_store import RolloutStore
from amalgam8.controller.store import WHOLE_LOG, Alone, Mirror, not_empty, superseded
from amalgam8.model.caller import Caller
from amalgam8.model.errors import BadAnswer, StoreUnavailable, Unavailable
from amalgam8.runtime.logs import Log

REVISIONS_KEPT = 1000
WITHIN = 5.0
OTHERS_AFTER = 3.0
"""Seconds after which a controller writes the objects of a change that another one made."""

RETRY = 1.0

T = TypeVar("T", bound=Object)

_log = Log("store")


class KubernetesStore(Alone):
    """A Store in ``namespace``; ``follow`` has to run beside it. Keeps ``kept`` revisions of each tenant."""

    waits = True

    def __init__(
        self, connection: Connection, namespace: str, *, kept: int = REVISIONS_KEPT, pace: Pace | None = None
    ) -> None:
        self.epoch = ""
        self.secret = b""
        self.rollouts: RolloutStore = KubernetesRollouts(connection, namespace)
        self._connection = connection
        self._base = f"/apis/{objects.VERSION}/namespaces/{namespace}"
        self._kept = kept
        self._pace = pace or Pace()
        self._identity = Identity(connection, namespace)
        self._roster = Roster(connection, namespace)
        self._tenants: dict[str, Followed] = {}
        self._revisions: dict[str, Revision] = {}
        self._listed: set[str] = set()
        self._ready = asyncio.Event()
        self._tried = asyncio.Event()
        self._trouble = ""
        self._news = asyncio.Event()
        self._tidy = asyncio.Event()
        self._missing: set[str] = set()
        self._keeper = Keeper(connection, self._base, self._book_of, self._prune)

    @property
    def ready(self) -> bool:
        """Whether everything was listed."""
        return self._ready.is_set()

    def tenants(self) -> Iterable[str]:
        return [name for name, one in self._tenants.items() if one.mirror.book.revision]

    def sidecars(self, tenant: str) -> Mapping[str, Caller]:
        return self._roster.of(tenant)

    async def load(self, tenant: str) -> Mirror:
        return (await self._found(tenant)).mirror

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        one = await self._found(tenant)
        book = one.mirror.book
        if book.revision != expected or change.revision != expected + 1:
            raise superseded(book.revision, expected)
        revision = Revision(tenant, change.revision, change)
        if not await self._create(objects.REVISIONS, objects.bounded(objects.revision_object(revision))):
            await self._reaches(one, change.revision)
            raise superseded(one.mirror.book.revision, expected)
        self._take(revision, own=True)

    async def log(
        self, tenant: str, above: int = 0, below: int | None = None, limit: int = WHOLE_LOG
    ) -> list[Change]:
        upto = WHOLE_LOG if below is None else below
        log = (await self._found(tenant)).log
        return [change for change in reversed(log) if above < change.revision < upto][:limit]

    async def restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        one = await self._found(tenant)
        if one.mirror.book.revision:
            raise not_empty(one.mirror.book.revision)
        # Not before the revision stands do these count; one that was begun and never ended is cleared away.
        for rule in book.rules.values():
            written = book.written[rule.id]
            await self._create(
                objects.RULES, objects.rule_object(tenant, rule, written, imported=book.revision)
            )
        change = log[0] if log and log[0].revision == book.revision else None
        revision = Revision(tenant, book.revision, change, imported=True, unconfirmed=book.unconfirmed)
        if not await self._create(objects.REVISIONS, objects.bounded(objects.revision_object(revision))):
            await self._reaches(one, book.revision)
            raise not_empty(one.mirror.book.revision)
        kept = [one for one in log if one is not change and one.revision > book.revision - self._kept]
        for older in kept:
            await self._create(
                objects.REVISIONS, objects.revision_object(Revision(tenant, older.revision, older))
            )
        one.replace(book, [*reversed(kept), *([change] if change else [])])

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        await self._asked(self._roster.remember(tenant, news))

    async def current(self, tenant: str) -> None:
        one = await self._found(tenant)
        while True:
            following = one.mirror.book.revision + 1
            path = f"{self._base}/{objects.REVISIONS}/{objects.revision_name(tenant, following)}"
            answer: Answer = await self._asked(self._connection.send("GET", path, expect=(404,)))
            if answer.status == 404:
                return
            await self._reaches(one, following)

    def edits(self) -> AsyncIterator[Edit]:
        """What people change in RoutingRules."""
        return self._keeper.edits()

    async def tried(self) -> None:
        """Return once everything was listed, or could not be."""
        await self._tried.wait()

    async def follow(self) -> None:
        """Mirror the namespace and keep its objects in step, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for plural, kind in ((objects.REVISIONS, RevisionObject), (objects.RULES, RuleObject)):
                sink = Sink(partial(self._replaced, plural), partial(self._changed, plural), self._failed)
                path = f"{self._base}/{plural}"
                tasks.create_task(Reflector(self._connection, path, kind, sink, self._pace).run())
            tasks.create_task(self._begin())
            tasks.create_task(self._tidying())
            tasks.create_task(self._reading())

    async def close(self) -> None:
        """Whoever made the connection closes it."""

    # What the API tells.

    def _replaced(self, plural: str, found: Mapping[Key, Any]) -> None:
        if plural == objects.RULES:
            self._keeper.replaced(found)
        else:
            self._revisions = {key[1]: one.spec for key, one in found.items()}
            if self._ready.is_set():
                self._catch_up()
        self._listed.add(plural)
        self._news.set()

    def _changed(self, plural: str, key: Key, one: Any) -> None:
        if plural == objects.RULES:
            self._keeper.changed(key, one)
        elif one is None:
            self._revisions.pop(key[1], None)
        else:
            self._revisions[key[1]] = one.spec
            if self._ready.is_set():
                self._take(one.spec)

    def _failed(self, reason: str) -> None:
        if not self._trouble:
            _log.warning("Kubernetes cannot be read: reads go on from memory", reason=reason)
        self._trouble = reason
        self._tried.set()

    async def _begin(self) -> None:
        """Once everything was listed, show what it adds up to; from then on, keep objects in step."""
        while self._listed < {objects.REVISIONS, objects.RULES}:
            self._news.clear()
            await self._news.wait()
        while True:
            try:
                self.epoch, self.secret = await self._identity.read()
                await self._roster.read()
                await self._read_anew()
                heads = {tenant: one.seen for tenant, one in self._tenants.items()}
                await self._keeper.clear_away(objects.leftovers(self._keeper.rules, heads))
                break
            except (Unavailable, Refusal) as error:
                self._failed(str(error))
                await asyncio.sleep(RETRY)
        self._ready.set()
        self._tried.set()
        self._catch_up()
        self._keeper.look_at_all()
        await self._keeper.work()

    def _catch_up(self) -> None:
        """Take what the revisions say."""
        for log in objects.by_tenant(self._revisions.values()).values():
            for revision in log:
                self._take(revision)
        for tenant, one in self._tenants.items():
            newest = max((r.revision for r in self._revisions.values() if r.tenant == tenant), default=0)
            if newest < one.seen:
                self._stale(tenant)

    def _take(self, revision: Revision, *, own: bool = False) -> None:
        """One more revision of a tenant, or one that is in already."""
        one = self._tenants.setdefault(revision.tenant, Followed(Rulebook(), (), self._kept))
        if revision.revision <= one.seen:
            return
        if revision.change is None or revision.imported or revision.revision > one.seen + 1:
            self._stale(revision.tenant)
            return
        one.take(revision.change)
        for identity in revision.change.ids:
            name = objects.rule_name(revision.tenant, identity)
            self._keeper.look_at(revision.tenant, identity, name, 0.0 if own else OTHERS_AFTER)

    def _stale(self, tenant: str) -> None:
        """More is missing of a tenant than the next revision."""
        self._missing.add(tenant)
        self._news.set()

    async def _reading(self) -> None:
        """Read anew what is stale."""
        await self._ready.wait()
        while True:
            self._news.clear()
            if self._missing:
                tenants, self._missing = self._missing, set()
                try:
                    await self._read_anew(tenants)
                except (Unavailable, Refusal) as error:
                    self._failed(str(error))
                    self._missing |= tenants
                    await asyncio.sleep(RETRY)
                continue
            await self._news.wait()

    async def _read_anew(self, tenants: Collection[str] | None = None) -> None:
        """Show what these tenants' rules and revisions add up to; None: all tenants'."""
        # In this order: rules may lag behind revisions, but never the other way round.
        rules = await self._list(objects.RULES, RuleObject)
        revisions = [one.spec for one in await self._list(objects.REVISIONS, RevisionObject)]
        logs = objects.by_tenant(revisions)
        for tenant in logs.keys() | {*(tenants or ())}:
            if tenants is not None and tenant not in tenants:
                continue
            log = logs.get(tenant, [])
            book = objects.rebuild(log, [one for one in rules if one.tenant == tenant])
            changes = [revision.change for revision in log if revision.change is not None]
            one = self._tenants.get(tenant)
            if one is None:
                self._tenants[tenant] = Followed(book, changes, self._kept)
                continue
            if book.revision < one.seen:
                _log.warning(
                    "Kubernetes has lost revisions", tenant=tenant, known=one.seen, now=book.revision
                )
                self.epoch = await self._identity.renew(self.epoch)
            one.replace(book, changes)
            for identity in book.rules:
                self._keeper.look_at(tenant, identity, objects.rule_name(tenant, identity))

    async def _list(self, plural: str, kind: type[T]) -> list[T]:
        found: list[T] = []
        token = ""
        while True:
            query = [("limit", str(PAGE))] + ([("continue", token)] if token else [])
            page = decode(await self._connection.get(f"{self._base}/{plural}", query), Page)
            for raw in page.items or ():
                with contextlib.suppress(BadAnswer):  # the reflector has said so
                    found.append(decode(raw, kind))
            if not (token := page.metadata.continue_):
                return found

    def _prune(self) -> None:
        """Revisions that are not kept may go, as no object lags behind them."""
        self._tidy.set()

    async def _tidying(self) -> None:
        """Remove revisions that are not kept, whenever there may be some."""
        while True:
            await self._tidy.wait()
            self._tidy.clear()
            for name, revision in list(self._revisions.items()):
                one = self._tenants.get(revision.tenant)
                if one is None or revision.revision > one.seen - self._kept:
                    continue
                try:
                    path = f"{self._base}/{objects.REVISIONS}/{name}"
                    await self._connection.send("DELETE", path, expect=(404, 409))
                except (Unavailable, Refusal):
                    break  # later, then
                self._revisions.pop(name, None)

    async def _create(self, plural: str, body: objects.Json) -> bool:
        """Create an object; False: there is one of that name."""
        answer: Answer = await self._asked(
            self._connection.send("POST", f"{self._base}/{plural}", body, expect=(409,))
        )
        return answer.status != 409

    def _book_of(self, tenant: str) -> Rulebook:
        return self._tenants[tenant].mirror.book if tenant in self._tenants else Rulebook()

    async def _found(self, tenant: str) -> Followed:
        if not self._ready.is_set():
            try:
                async with asyncio.timeout(WITHIN):
                    await self._tried.wait()
            except TimeoutError:
                pass
            if not self._ready.is_set():
                because = f": {self._trouble}" if self._trouble else ""
                raise StoreUnavailable(f"Kubernetes was not reached yet{because}")
        return self._tenants.setdefault(tenant, Followed(Rulebook(), (), self._kept))

    async def _reaches(self, one: Followed, revision: int) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                await one.reaches(revision)
        except TimeoutError:
            raise StoreUnavailable("what another controller wrote has not come yet; try again") from None

    async def _asked(self, asked: Any) -> Any:
        try:
            found = await asked
        except Refusal as error:
            raise StoreUnavailable(f"Kubernetes refuses: {error}") from None
        except Unavailable as error:
            raise StoreUnavailable(f"Kubernetes cannot be used: {error}") from None
        self._trouble = ""
        return found
