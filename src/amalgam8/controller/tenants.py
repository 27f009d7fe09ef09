"""Everything the controller has of each tenant, and the one way in which rules are written.

Writes of a tenant go one after another; where somebody else (another replica on the same store) wrote
first, the operation is worked out anew on what there is now. Refuses nothing by itself: the operation
and the store do.
"""

import asyncio
import time
import uuid
from collections.abc import Callable

import msgspec

from amalgam8.controller.fleet import Fleet
from amalgam8.controller.plans import Plans
from amalgam8.controller.rulebook import Change, Rulebook, Write
from amalgam8.controller.store import Mirror, Store
from amalgam8.model.errors import StoreUnavailable, Superseded

WRITE_WITHIN = 10.0
"""Seconds that a write may take, waiting for its turn included."""

ATTEMPTS = 20
"""How often an operation is worked out before the store is called too busy."""

Operation = Callable[[Rulebook, Write], Change | None]
"""Works out what to write; None: nothing."""


class Wrote(msgspec.Struct, frozen=True):
    """One change that was stored, for metrics."""

    tenant: str
    cause: str
    seconds: float


class Tenant:
    """One tenant: its rules, their Plans and its sidecars."""

    def __init__(self, name: str, mirror: Mirror, plans: Plans, fleet: Fleet) -> None:
        self.name = name
        self.mirror = mirror
        self.plans = plans
        self.fleet = fleet
        self.turn = asyncio.Lock()


class Tenants:
    """All tenants on ``store``. ``now`` is the wall clock (s), ``fault_ttl`` (s) the life of faults."""

    def __init__(
        self,
        store: Store,
        fault_ttl: float,
        *,
        now: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        wrote: Callable[[Wrote], None] = lambda _event: None,
        compiled: Callable[[str], None] = lambda _tenant: None,
    ) -> None:
        self._store = store
        self._fault_ttl = fault_ttl
        self._now = now
        self._new_id = new_id
        self._wrote = wrote
        self._compiled = compiled
        self._tenants: dict[str, Tenant] = {}

    @property
    def epoch(self) -> str:
        return self._store.epoch

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
                self._tenants[name] = Tenant(name, mirror, plans, Fleet(name, self._store.secret))
        return self._tenants[name]

    async def write(self, tenant: Tenant, operation: Operation, request_id: str = "") -> Change | None:
        """Carry out ``operation``; returns what was stored, which is safe then and visible.

        Raises:
            StoreUnavailable: the store failed or took too long; it may have been stored all the same.
            A8Error: what the operation raises; nothing was stored.
        """
        started = time.perf_counter()
        try:
            async with asyncio.timeout(WRITE_WITHIN), tenant.turn:
                change = await self._write(tenant, operation, request_id)
        except TimeoutError:
            raise StoreUnavailable(f"the rules could not be stored within {WRITE_WITHIN:g} s") from None
        if change is not None:
            self._wrote(Wrote(tenant.name, change.cause, time.perf_counter() - started))
        return change

    async def _write(self, tenant: Tenant, operation: Operation, request_id: str) -> Change | None:
        for _ in range(ATTEMPTS):
            book = tenant.mirror.book
            change = operation(book, Write(self._now(), self._new_id, self._fault_ttl, request_id))
            if change is None:
                return None
            try:
                await self._store.append(tenant.name, book.revision, change)
            except Superseded:
                continue
            return change
        raise StoreUnavailable(f"others wrote first {ATTEMPTS} times in a row; try again")
