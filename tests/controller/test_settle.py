"""Shares follow a moment after reports, in every tenant."""

from amalgam8.controller import settle
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rulebook import create
from amalgam8.controller.slices import GRACE
from amalgam8.controller.tenants import Tenants
from amalgam8.model.caller import Caller
from amalgam8.model.rule import RateLimit, Rule
from amalgam8.model.slices import SliceReport, Wanted


async def test_every_tenant_shares_out_its_own() -> None:
    tenants = Tenants(MemoryStore(), 60.0, clock=lambda: 0.0)
    rule = Rule("l", destination="shop", actions=(RateLimit(10.0, scope="fleet"),))
    for name in ("one", "other"):
        tenant = await tenants.get(name)
        await tenants.write(tenant, lambda book, write: create(book, [rule], write))
        for identity in ("a", "b"):
            report = SliceReport("", "e", (Wanted("l/0", 0.0, 0, 0.1),))
            tenant.limits.take(identity, Caller("web"), report, tenant.mirror.book, GRACE + 1)
    settle.settle(tenants, GRACE + 1.1)
    for name in ("one", "other"):
        tenant = await tenants.get(name)
        assert [tenant.limits.told(one).value.slices for one in ("a", "b")] == [{"l/0": 0.5}] * 2
