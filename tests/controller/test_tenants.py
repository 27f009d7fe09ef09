"""Writes: one after another, worked out anew where somebody else was first, refused where the store fails."""

import asyncio

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller import tenants as tenants_module
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rulebook import Write
from amalgam8.controller.tenants import Operation, Tenants, Terms, Wrote
from amalgam8.model.errors import RuleExists, StoreUnavailable, Superseded
from amalgam8.model.rule import Rule
from tests.controller.rules import NOON, fault, route


def creating(*rules: Rule) -> Operation:
    return lambda book, write: rulebook.create(book, rules, write)


class Contested(MemoryStore):
    """Somebody else writes first, ``times`` times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        if self.times:
            self.times -= 1
            book = (await self.load(tenant)).book
            other = route(f"other-{self.times}")
            await super().append(
                tenant, book.revision, rulebook.create(book, [other], Write(NOON, lambda: "", 1.0))
            )
        await super().append(tenant, expected, change)


class Stuck(MemoryStore):
    async def append(self, tenant: str, expected: int, change: Change) -> None:  # noqa: ARG002
        await asyncio.Event().wait()


async def test_what_a_write_is_given() -> None:
    events: list[Wrote] = []
    tenants = Tenants(MemoryStore(), 60.0, now=lambda: NOON, new_id=lambda: "made", wrote=events.append)
    tenant = await tenants.get("default")
    change = await tenants.write(tenant, creating(fault()), Terms("request-7"))
    assert change is not None
    assert (change.after[0].id, change.request_id) == ("made", "request-7")
    assert change.after[0].expires_at == NOON + 60
    assert tenant.mirror.book.revision == 1
    assert [(event.tenant, event.cause) for event in events] == [("default", "create")]


async def test_concurrent_writers_all_get_through() -> None:
    tenants = Tenants(MemoryStore(), 60.0)
    tenant = await tenants.get("default")
    changes = await asyncio.gather(*[tenants.write(tenant, creating(route())) for _ in range(50)])
    assert sorted(change.revision for change in changes if change) == list(range(1, 51))
    assert len(tenant.mirror.book.rules) == 50


async def test_somebody_else_was_first() -> None:
    tenants = Tenants(Contested(3), 60.0)
    tenant = await tenants.get("default")
    change = await tenants.write(tenant, creating(route("mine")))
    assert change is not None
    assert change.revision == 4
    assert sorted(tenant.mirror.book.rules) == ["mine", "other-0", "other-1", "other-2"]


async def test_what_somebody_else_wrote_counts() -> None:
    tenants = Tenants(Contested(1), 60.0)
    tenant = await tenants.get("default")
    with pytest.raises(RuleExists):
        await tenants.write(tenant, creating(route("other-0")))


async def test_a_store_that_is_too_busy_is_not_asked_for_ever() -> None:
    tenants = Tenants(Contested(1000), 60.0)
    with pytest.raises(StoreUnavailable, match="others wrote first"):
        await tenants.write(await tenants.get("default"), creating(route("mine")))


async def test_a_store_that_hangs_is_not_waited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenants_module, "WRITE_WITHIN", 0.05)
    tenants = Tenants(Stuck(), 60.0)
    tenant = await tenants.get("default")
    results = await asyncio.gather(
        *[tenants.write(tenant, creating(route())) for _ in range(3)], return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailable] * 3


async def test_a_refused_operation_writes_nothing() -> None:
    tenants = Tenants(MemoryStore(), 60.0)
    tenant = await tenants.get("default")

    def refuse(_book: Rulebook, _write: Write) -> Change:
        raise RuleExists("no")

    with pytest.raises(RuleExists):
        await tenants.write(tenant, refuse)
    assert await tenants.write(tenant, lambda _book, _write: None) is None
    assert tenant.mirror.book.revision == 0


async def test_tenants_of_the_store_are_known_after_open() -> None:
    store = MemoryStore()
    for name in ("b", "a"):
        book = (await store.load(name)).book
        await store.append(name, 0, rulebook.create(book, [route("x")], Write(NOON, lambda: "", 1.0)))
    tenants = Tenants(store, 60.0)
    assert tenants.known() == []
    await tenants.open()
    assert [tenant.name for tenant in tenants.known()] == ["a", "b"]
    assert await tenants.get("a") is tenants.known()[0]
    assert tenants.epoch == store.epoch
    assert tenants.known()[0].fleet.key("x") != tenants.known()[1].fleet.key("x")
    with pytest.raises(Superseded):
        await store.append("a", 0, rulebook.create(Rulebook(), [], Write(NOON, lambda: "", 1.0)))
