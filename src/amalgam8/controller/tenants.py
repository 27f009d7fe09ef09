"""Everything the controller has of each tenant, and the one way in which rules are written.

Writes of a tenant go one after another; where somebody else (another replica on the same store) wrote
first, the operation is worked out anew on what there is now. Refuses nothing by itself: the operation
and the store do.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from amalgam8.controller import undo
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.fleet import Fleet
from amalgam8.controller.ledger import Ledger
from amalgam8.controller.plans import Plans
from amalgam8.controller.rulebook import Write
from amalgam8.controller.slices import FleetLimits
from amalgam8.controller.store import Mirror, Said, Store
from amalgam8.controller.traffic import Calls
from amalgam8.model.errors import RevisionMoved, StoreUnavailable, Superseded

WRITE_WITHIN = 10.0
"""Seconds that a write may take, waiting for its turn included."""

ATTEMPTS = 20
"""How often an operation is worked out before the store is called too busy."""

Operation = Callable[[Rulebook, Write], Change | None]
"""Works out what to write; None: nothing."""


class Terms(msgspec.Struct, frozen=True):
    """Who writes and why, and on which conditions; ``revisions``: only at one of these, None: at any."""

    request_id: str = ""
    author: str = ""
    comment: str = ""
    revisions: frozenset[int] | None = None
    confirm_within: float | None = None


BARE = Terms()


class Wrote(msgspec.Struct, frozen=True):
    """One change that was stored, for metrics."""

    tenant: str
    cause: str
    seconds: float


class Tenant:
    """One tenant: its rules, their Plans, its sidecars, and what those have applied and counted."""

    def __init__(
        self, name: str, mirror: Mirror, plans: Plans, fleet: Fleet, calls: Calls, limits: FleetLimits
    ) -> None:
        self.name = name
        self.mirror = mirror
        self.plans = plans
        self.fleet = fleet
        self.ledger = Ledger(mirror, plans, fleet)
        self.calls = calls
        self.limits = limits
        self.turn = asyncio.Lock()


class Tenants:
    """All tenants on ``store``. ``now`` is the wall clock (s), ``fault_ttl`` (s) the life of faults.

    ``clock`` (s, steady) is for the age of what sidecars report.
    """

    def __init__(
        self,
        store: Store,
        fault_ttl: float,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        wrote: Callable[[Wrote], None] = lambda _event: None,
        compiled: Callable[[str], None] = lambda _tenant: None,
    ) -> None:
        self._store = store
        self._fault_ttl = fault_ttl
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._wrote = wrote
        self._compiled = compiled
        self._tenants: dict[str, Tenant] = {}
        self._started = clock()
        store.listen(self._heard)

    @property
    def epoch(self) -> str:
        return self._store.epoch

    @property
    def waits(self) -> bool:
        """Whether ``get`` may have to wait for the store."""
        return self._store.waits

    def now(self) -> float:
        return self._now()

    async def open(self) -> None:
        """Look up all tenants that have rules."""
        for name in self._store.tenants():
            await self.get(name)

    def known(self) -> list[Tenant]:
        """The tenants that were asked for so far, by name."""
        return [self._tenants[name] for name in sorted(self._tenants)]

    async def get(self, name: str) -> Tenant:
        """The tenant, made if need be; may raise StoreUnavailable."""
        if name not in self._tenants:
            mirror = await self._store.load(name)
            if name not in self._tenants:
                plans = Plans(mirror, lambda: self._compiled(name))
                calls, limits = Calls(), FleetLimits(self._started, mirror.feed.nudge)
                dropped = _both(calls.forget, limits.forget)
                fleet = Fleet(name, self._store.secret, dropped, sharing=self._store.shared)
                for said in self._store.said(name):
                    fleet.told(said, self._when(said.at))
                fleet.remembered(self._store.sidecars(name), self._clock())
                self._tenants[name] = Tenant(name, mirror, plans, fleet, calls, limits)
        return self._tenants[name]

    async def write(self, tenant: Tenant, operation: Operation, terms: Terms = BARE) -> Change | None:
        """Carry out ``operation``; returns what was stored, which is safe then and visible.

        Raises:
            RevisionMoved: the rules are at none of the revisions that ``terms`` name; nothing was stored.
            StoreUnavailable: the store failed or took too long; it may have been stored all the same.
            A8Error: what the operation raises; nothing was stored.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(WRITE_WITHIN), tenant.turn:
                change = await self._write(tenant, operation, terms)
        except TimeoutError:
            raise StoreUnavailable(f"the rules could not be stored within {WRITE_WITHIN:g} s") from None
        if change is not None:
            self._wrote(Wrote(tenant.name, change.cause, time.perf_counter() - started))
        return change

    async def rollback(self, tenant: Tenant, revision: int, terms: Terms = BARE) -> Change | None:
        """Make the rules what they were at ``revision``; raises as ``write`` and ``undo.rollback``."""
        for _ in range(ATTEMPTS):
            log = await self._store.log(tenant.name, above=revision)
            try:
                return await self.write(tenant, partial(_rollback, log, revision), terms)
            except Superseded:
                continue
        raise StoreUnavailable(f"others wrote first {ATTEMPTS} times in a row; try again")

    def try_out(self, tenant: Tenant, operation: Operation, terms: Terms = BARE) -> Change | None:
        """What ``write`` would store now; raises as it does."""
        return operation(tenant.mirror.book, self._made(tenant.mirror.book, terms))

    async def whole(self, tenant: Tenant) -> tuple[Rulebook, list[Change]]:
        """The rules and all of the history that leads to them, newest first."""
        async with asyncio.timeout(WRITE_WITHIN), tenant.turn:
            book = tenant.mirror.book
            return book, await self._store.log(tenant.name, below=book.revision + 1)

    async def history(self, tenant: Tenant, below: int | None, limit: int) -> list[Change]:
        """Kept changes below a revision, newest first."""
        return await self._store.log(tenant.name, below=below, limit=limit)

    async def restore(self, tenant: Tenant, book: Rulebook, log: Sequence[Change]) -> None:
        """Give an empty tenant a whole state; may raise NotEmpty and StoreUnavailable."""
        async with tenant.turn:
            await self._store.restore(tenant.name, book, log)

    async def remember(self, tenant: Tenant) -> None:
        """Store which sidecars came, changed or are forgotten; may raise StoreUnavailable."""
        news = tenant.fleet.take_news()
        if not news:
            return
        try:
            await self._store.remember(tenant.name, news)
        except BaseException:
            tenant.fleet.put_back(news)
            raise

    async def tell(self, tenant: Tenant) -> None:
        """Tell the other controllers what sidecars reported here; may raise StoreUnavailable."""
        words = tenant.fleet.take_words()
        if not words:
            return
        try:
            await self._store.tell(tenant.name, words)
        except BaseException:
            tenant.fleet.put_words_back(words)
            raise

    def _heard(self, name: str, said: Said) -> None:
        """Another controller said something of a sidecar."""
        tenant = self._tenants.get(name)
        if tenant is None:
            return
        heard = self._when(said.at)
        if said.wants is not None:
            if said.who is not None:
                tenant.limits.take(said.id, said.who, said.wants, tenant.mirror.book, heard)
            return
        tenant.fleet.told(said, heard)
        if said.report is not None and said.report.traffic is not None:
            tenant.calls.take(said.id, said.report.traffic, heard)

    def _when(self, at: float) -> float:
        """A time of another controller's wall clock on this one's steady clock; now, where there is none."""
        return self._clock() - (max(self._now() - at, 0.0) if at else 0.0)

    async def _write(self, tenant: Tenant, operation: Operation, terms: Terms) -> Change | None:
        if terms.revisions is not None and tenant.mirror.book.revision not in terms.revisions:
            await self._store.current(tenant.name)  # another controller may have written it just now
        for _ in range(ATTEMPTS):
            book = tenant.mirror.book
            change = operation(book, self._made(book, terms))
            if change is None:
                return None
            try:
                await self._store.append(tenant.name, book.revision, change)
            except Superseded:
                continue
            return change
        raise StoreUnavailable(f"others wrote first {ATTEMPTS} times in a row; try again")

    def _made(self, book: Rulebook, terms: Terms) -> Write:
        """What an operation on ``book`` is given, if ``terms`` allow it; raises RevisionMoved."""
        if terms.revisions is not None and book.revision not in terms.revisions:
            asked = " or ".join(str(revision) for revision in sorted(terms.revisions))
            raise RevisionMoved(f"the rules are at revision {book.revision}, not at {asked}", book.revision)
        return Write(
            self._now(),
            self._new_id,
            self._fault_ttl,
            terms.request_id,
            terms.author,
            terms.comment,
            terms.confirm_within,
        )


def _both(one: Callable[[str], None], other: Callable[[str], None]) -> Callable[[str], None]:
    def called(identity: str) -> None:
        one(identity)
        other(identity)

    return called


def _rollback(log: Sequence[Change], revision: int, book: Rulebook, write: Write) -> Change:
    return undo.rollback(book, log, revision, write)
