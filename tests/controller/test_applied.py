"""Waiting for sidecars: woken by their reports, and never for ever."""

import asyncio
import time

import pytest

from amalgam8.controller import applied, rulebook
from amalgam8.controller.applied import until_applied
from amalgam8.controller.book import Change
from amalgam8.controller.ledger import Moment
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.model.caller import caller
from amalgam8.model.report import PlanStamp, SidecarReport
from tests.controller.rules import route

WEB = caller("web")


def moment() -> Moment:
    return Moment(time.monotonic(), time.time())


def report(tenant: Tenant, identity: str) -> None:
    plan = tenant.plans.plan(WEB)
    key = tenant.fleet.key(identity)
    stamp = PlanStamp(plan.revision, plan.hash)
    tenant.fleet.report(identity, SidecarReport(key, "web", plan=stamp), time.monotonic())


@pytest.fixture
async def tenant() -> Tenant:
    return await Tenants(MemoryStore(), 60.0).get("default")


async def change(tenant: Tenant) -> Change:
    made = rulebook.create(tenant.mirror.book, [route("a")], rulebook.Write(time.time(), lambda: "", 60.0))
    tenant.mirror.take(made)
    return made


async def test_nobody_to_wait_for(tenant: Tenant) -> None:
    verdict = await until_applied(tenant, await change(tenant), 60, moment)
    assert (verdict.applied, verdict.concerned, verdict.missing) == (True, 0, ())


async def test_the_last_report_ends_it(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, "LOOK_AGAIN", 100.0)
    for name in ("one", "two"):
        report(tenant, name)
    waiting = asyncio.create_task(until_applied(tenant, await change(tenant), 50, moment))
    await asyncio.sleep(0)
    report(tenant, "one")
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    report(tenant, "two")
    async with asyncio.timeout(10):
        verdict = await waiting
    assert (verdict.applied, verdict.concerned) == (True, 2)


async def test_the_end_of_patience(tenant: Tenant) -> None:
    report(tenant, "one")
    verdict = await until_applied(tenant, await change(tenant), 0.05, moment)
    assert [(one.id, one.state) for one in verdict.missing] == [("one", "pending")]


async def test_no_patience_at_all_is_one_look(tenant: Tenant) -> None:
    report(tenant, "one")
    verdict = await until_applied(tenant, await change(tenant), 0, moment)
    assert not verdict.applied
