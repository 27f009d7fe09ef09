"""Rules that end: a revision of its own, at the time, for every tenant."""

import asyncio
import time

import pytest

from amalgam8.controller import lapse, rulebook
from amalgam8.controller.book import Change
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.errors import StoreUnavailable
from tests.controller.rules import fault, route
from tests.controller.serving import Clock


async def put(tenants: Tenants, name: str, ttl: float) -> Tenant:
    tenant = await tenants.get(name)
    rules = [fault("f", ttl=ttl), route("r")]
    await tenants.write(tenant, lambda book, write: rulebook.create(book, rules, write))
    return tenant


async def test_a_sweep_takes_what_is_over() -> None:
    clock = Clock()
    tenants = Tenants(MemoryStore(), 60.0, now=clock)
    one, other = await put(tenants, "one", 5.0), await put(tenants, "other", 50.0)
    assert lapse.pause(tenants) == lapse.TICK
    clock.seconds += 4.5
    await lapse.sweep(tenants)
    assert one.mirror.book.revision == 1
    assert lapse.pause(tenants) == pytest.approx(0.5)
    clock.seconds += 0.5
    assert lapse.pause(tenants) == lapse.SHORTEST
    await lapse.sweep(tenants)
    assert (one.mirror.book.revision, list(one.mirror.book.rules)) == (2, ["r"])
    assert (other.mirror.book.revision, len(other.mirror.book.rules)) == (1, 2)
    await lapse.sweep(tenants)
    assert one.mirror.book.revision == 2


async def test_nothing_to_wait_for() -> None:
    assert lapse.pause(Tenants(MemoryStore(), 60.0)) == lapse.TICK


async def test_a_store_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lapse, "TICK", 0.01)

    class Failing(MemoryStore):
        failures = 0

        async def append(self, tenant: str, expected: int, change: Change) -> None:
            if change.cause == "lapse" and self.failures < 2:
                self.failures += 1
                raise StoreUnavailable("the disk is full")
            await super().append(tenant, expected, change)

    store = Failing()
    tenants = Tenants(store, 60.0)
    tenant = await put(tenants, "default", 0.01)
    following = asyncio.create_task(lapse.follow(tenants))
    async with asyncio.timeout(5):
        await tenant.mirror.feed.newer(1)
    following.cancel()
    assert store.failures == 2
    assert list(tenant.mirror.book.rules) == ["r"]


async def test_it_follows_the_clock() -> None:
    tenants = Tenants(MemoryStore(), 60.0)
    tenant = await put(tenants, "default", 0.05)
    due = tenant.mirror.book.next_due
    assert due is not None
    following = asyncio.create_task(lapse.follow(tenants))
    async with asyncio.timeout(5):
        await tenant.mirror.feed.newer(1)
    following.cancel()
    assert time.time() >= due
