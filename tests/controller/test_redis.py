"""Controllers that share a store: they never diverge, and outlive it. The contract is in tests/contracts."""

import asyncio
import contextlib
import logging
import random
import shutil
from collections.abc import AsyncIterator

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook
from amalgam8.controller.redis import RedisStore
from amalgam8.controller.redis_scripts import TOUCHED, keys_of
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.slices import GRACE
from amalgam8.controller.store import Said
from amalgam8.controller.tenants import Tenants, Terms
from amalgam8.controller.watch import PlanSource
from amalgam8.model.caller import caller
from amalgam8.model.errors import NotEmpty, RevisionMoved, StoreUnavailable, Superseded
from amalgam8.model.report import PlanStamp, SidecarReport
from amalgam8.model.rule import RateLimit, Rule
from amalgam8.model.slices import SliceReport, Wanted
from tests.conftest import eventually
from tests.controller.redis_kit import RedisKit
from tests.controller.rules import route, write
from tests.valkey import valkey

WEB = caller("web", ["v1"])


@pytest.fixture
async def kit() -> AsyncIterator[RedisKit]:
    with valkey(durable=True) as server:
        async with RedisKit(server) as kit:
            yield kit


async def two(kit: RedisKit, kept: int = 10_000) -> tuple[RedisStore, RedisStore]:
    one, other = kit.make(kept), kit.make(kept)
    await kit.up(one, other)
    return one, other


async def create(store: RedisStore, *rules: Rule, tenant: str = "default") -> Rulebook:
    book = (await store.load(tenant)).book
    await store.append(tenant, book.revision, rulebook.create(book, rules, write()))
    return (await store.load(tenant)).book


async def agree(*stores: RedisStore, tenant: str = "default") -> Rulebook:
    """Wait until all show the same; returns it."""

    async def same() -> bool:
        books = [(await store.load(tenant)).book for store in stores]
        return all(book == books[0] for book in books)

    await eventually(same, what="controllers that agree")
    return (await stores[0].load(tenant)).book


async def test_what_one_writes_the_other_shows_and_streams(kit: RedisKit) -> None:
    one, other = await two(kit)
    assert (one.epoch, one.secret) == (other.epoch, other.secret)
    mirror = await other.load("default")
    waiting = asyncio.create_task(mirror.feed.newer(0))
    book = await create(one, route("a"))
    async with asyncio.timeout(5):
        assert await waiting == 1
    assert mirror.book == book
    assert mirror.touched_since(0) == {"reviews"}
    assert await other.log("default") == await one.log("default")


async def test_a_tenant_that_one_makes_the_other_knows(kit: RedisKit) -> None:
    one, other = await two(kit)
    await create(one, route("a"), tenant="shop")

    async def known() -> bool:
        return list(other.tenants()) == ["shop"]

    await eventually(known, what="a tenant")


async def test_racing_writers_never_diverge(kit: RedisKit) -> None:
    """All that was acknowledged is there, once, on both, in one order."""
    one, other = await two(kit)
    sides = [Tenants(store, 3600.0) for store in (one, other)]
    dice = random.Random(7)

    async def work(number: int) -> str:
        tenants = dice.choice(sides)
        tenant = await tenants.get("default")
        rule = route(f"rule-{number}")
        await tenants.write(tenant, lambda book, write: rulebook.create(book, [rule], write))
        return rule.id

    ids = await asyncio.gather(*(work(number) for number in range(60)))
    book = await agree(one, other)
    assert set(book.rules) == set(ids)
    assert book.revision == 60
    assert [change.revision for change in await other.log("default")] == list(range(60, 0, -1))


async def test_a_condition_is_held_against_what_any_controller_acknowledged(kit: RedisKit) -> None:
    one, other = await two(kit)
    mine, theirs = Tenants(one, 3600.0), Tenants(other, 3600.0)
    tenant, behind = await mine.get("default"), await theirs.get("default")
    await kit.stop(other)
    await mine.write(tenant, lambda book, write: rulebook.create(book, [route("a")], write))
    assert behind.mirror.book.revision == 0
    kit.follow(other)
    terms = Terms(revisions=frozenset({1}))
    change = await theirs.write(behind, lambda book, write: rulebook.create(book, [route("b")], write), terms)
    assert change is not None
    assert change.revision == 2
    with pytest.raises(RevisionMoved, match="revision 2"):
        await mine.write(tenant, lambda book, write: rulebook.create(book, [route("c")], write), terms)


async def test_one_that_fell_behind_its_log_loads_everything(kit: RedisKit) -> None:
    one, other = await two(kit, kept=3)
    await create(one, route("first"))
    await agree(one, other)
    await kit.stop(other)
    for number in range(6):
        await create(one, route(str(number)))
    kit.follow(other)
    book = await agree(one, other)
    assert len(book.rules) == 7
    assert [change.revision for change in await other.log("default")] == [7, 6, 5]


async def test_an_import_shows_everywhere_even_without_a_history(kit: RedisKit) -> None:
    one, other = await two(kit)
    await create(one, route("a"))
    book = await create(one, route("b"))
    await other.load("copy")
    await one.restore("copy", book, [])
    assert await agree(one, other, tenant="copy") == book
    assert await other.log("copy") == []
    with pytest.raises(NotEmpty, match="revision 2"):
        await other.restore("copy", book, [])
    fresh = kit.make()
    await kit.up(fresh)
    assert (await fresh.load("copy")).book == book


async def test_an_import_shows_nobody_the_past_step_by_step(kit: RedisKit) -> None:
    one, other = await two(kit)
    for number in range(3):
        book = await create(one, route(str(number)))
    waiting = asyncio.ensure_future((await other.load("copy")).feed.newer(0))
    await asyncio.sleep(0)
    await one.restore("copy", book, await one.log("default"))
    async with asyncio.timeout(10):
        assert await waiting == 3
    assert await agree(one, other, tenant="copy") == book
    assert await other.log("copy") == await other.log("default")


async def test_a_long_history_is_read_in_pages(kit: RedisKit) -> None:
    (one, _) = await two(kit)
    for number in range(TOUCHED + 300):
        await create(one, route(str(number)))
    assert len(await one.log("default")) == TOUCHED + 300
    assert [change.revision for change in await one.log("default", above=4, below=8)] == [7, 6, 5]
    fresh = kit.make()
    await kit.up(fresh)
    mirror = await fresh.load("default")
    assert mirror.touched_since(mirror.book.revision - TOUCHED) == {"reviews"}


async def test_sidecars_of_one_are_known_to_all(kit: RedisKit) -> None:
    one, other = await two(kit)
    mine, theirs = Tenants(one, 3600.0), Tenants(other, 3600.0)
    tenant, far = await mine.get("default"), await theirs.get("default")
    tenant.fleet.opened("s", WEB, 0.0)
    await mine.remember(tenant)

    async def pending() -> bool:
        return [row.state for row in far.fleet.rows(theirs._clock(), far.plans.plan)] == ["pending"]

    await eventually(pending, what="a sidecar that came to the other controller")
    plan = tenant.plans.plan(WEB)
    stamp = PlanStamp(plan.revision, plan.hash)
    report = SidecarReport(tenant.fleet.key("s"), "web", ("v1",), "envoy", stamp)
    tenant.fleet.report("s", report, mine._clock())
    await mine.tell(tenant)

    async def applied() -> bool:
        rows = far.fleet.rows(theirs._clock(), far.plans.plan)
        return [(row.state, row.proxy) for row in rows] == [("applied", "envoy")]

    await eventually(applied, what="what it has applied")
    assert tenant.fleet.key("s") not in kit.server.ask("XREVRANGE", keys_of("default")[5], "+", "-")
    later = Tenants(late := kit.make(), 3600.0)
    await kit.up(late)
    there = await later.get("default")
    assert [row.state for row in there.fleet.rows(later._clock(), there.plans.plan)] == ["applied"]
    tenant.fleet.report("s", SidecarReport(tenant.fleet.key("s"), "web", leaving=True), mine._clock())
    await mine.remember(tenant)

    async def gone() -> bool:
        return not far.fleet.rows(theirs._clock(), far.plans.plan) and not late.sidecars("default")

    await eventually(gone, what="a sidecar that has left")


async def test_nobody_hears_himself(kit: RedisKit) -> None:
    one, other = await two(kit)
    heard: list[tuple[str, Said]] = []
    one.listen(lambda tenant, said: heard.append((tenant, said)))
    await one.remember("default", {"mine": WEB})
    await other.remember("default", {"theirs": WEB})

    async def told() -> bool:
        return bool(heard)

    await eventually(told, what="what the other said")
    assert [(tenant, said.id) for tenant, said in heard] == [("default", "theirs")]
    assert one.sidecars("default") == {"mine": WEB, "theirs": WEB}


async def test_a_store_that_was_killed_comes_back_as_it_was(
    kit: RedisKit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amalgam8")
    one, other = await two(kit)
    book = await create(one, route("a"))
    await agree(one, other)
    epoch, feed = one.epoch, (await other.load("default")).feed
    kit.server.kill()
    for store in (one, other):
        change = rulebook.create(book, [route("b")], write())
        for asked in (store.append("default", 1, change), store.log("default"), store.current("default")):
            with pytest.raises(StoreUnavailable):
                await asked
        assert (await store.load("default")).book == book, "reads go on"
    kit.server.start()
    await kit.up(one, other)
    await create(other, route("b"))
    assert len((await agree(one, other)).rules) == 2
    assert one.epoch == other.epoch == epoch
    assert (await other.load("default")).feed is feed, "streams go on"


@pytest.mark.parametrize("loses", ["everything", "the latest"])
async def test_a_store_that_lost_data_is_given_them_back(kit: RedisKit, loses: str) -> None:
    one, other = await two(kit)
    await create(one, route("a"))
    await agree(one, other)
    before = one.epoch
    await one.remember("default", {"s": WEB})
    kept = kit.server.folder / "kept"
    if loses == "the latest":
        kit.server.kill()
        await kit.down(one, other)
        shutil.copytree(kit.server.folder / "appendonlydir", kept)
        kit.server.start()
        await kit.up(one, other)
    book = await create(one, route("b"))
    await agree(one, other)
    mirror = await other.load("default")
    tenant = await Tenants(other, 1.0).get("default")
    source = PlanSource(other.epoch, "", WEB, mirror, tenant.plans, tenant.limits, "s")
    watching = asyncio.create_task(source.newer(book.revision))
    await asyncio.sleep(0)
    kit.server.kill()
    kit.server.lose()
    if loses == "the latest":
        kept.rename(kit.server.folder / "appendonlydir")
    kit.server.start()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            await watching
    await kit.up(one, other)
    assert await agree(one, other) == book
    assert one.epoch == other.epoch != before
    assert (await other.load("default")) is mirror
    assert [change.revision for change in await one.log("default")] == [2, 1]
    assert other.sidecars("default") == {"s": WEB}
    fresh = kit.make()
    await kit.up(fresh)
    assert (await fresh.load("default")).book == book
    assert (await create(fresh, route("c"))).revision == 3


async def test_revisions_that_were_given_anew_are_noticed(kit: RedisKit) -> None:
    """A store that lost the end of its log, on which another controller then wrote other changes."""
    one = kit.make()
    await kit.up(one)
    await create(one, route("a"))
    await kit.stop(one)
    kit.server.ask("FLUSHALL")
    other = kit.make()
    await kit.up(other)
    book = await create(other, route("other"))
    kit.server.ask("SET", "{a8c}:epoch", one.epoch)
    kit.follow(one)

    async def noticed() -> bool:
        return one.epoch == other.epoch and (await one.load("default")).book == book

    await eventually(noticed, what="what is there now", within=20)


async def test_before_it_was_reached_nothing_is_known() -> None:
    with valkey() as server:
        server.kill()
        async with RedisKit(server) as kit:
            store = kit.make()
            await store.tried()
            assert list(store.tenants()) == []
            with pytest.raises(StoreUnavailable, match="not reached yet"):
                await store.load("default")
            server.start()
            await kit.up(store)
            assert (await store.load("default")).book == Rulebook()


async def test_a_store_without_a_file_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with valkey() as server:
        async with RedisKit(server) as kit:
            store = kit.make()
            await kit.up(store)
    assert "no append-only file" in caplog.text
    assert "rules that were acknowledged" in caplog.text


async def test_what_nobody_of_ours_wrote_is_no_crash(kit: RedisKit) -> None:
    one, other = await two(kit)
    await create(one, route("a"))
    await agree(one, other)
    kit.server.ask("XADD", keys_of("default")[2], "2-0", "hello", "world")
    with contextlib.suppress(StoreUnavailable):
        await create(one, route("b"))
    kit.server.ask("XDEL", keys_of("default")[2], "2-0")
    await kit.up(one, other)
    assert (await agree(one, other)).revision >= 1


async def test_the_slower_of_two_is_told_what_is_there(kit: RedisKit) -> None:
    one, other = await two(kit)
    await one.load("default")
    await other.load("default")
    mine, theirs = (rulebook.create(Rulebook(), [route(name)], write()) for name in "ab")
    results = await asyncio.gather(
        one.append("default", 0, mine), other.append("default", 0, theirs), return_exceptions=True
    )
    assert [type(result) for result in results].count(Superseded) == 1
    loser = one if isinstance(results[0], Superseded) else other
    assert (await loser.load("default")).book.revision == 1, "it can work its change out anew at once"
    book = (await loser.load("default")).book
    await loser.append("default", 1, rulebook.remove(book, Selection(), write()))
    assert (await agree(one, other)).rules == {}


async def test_a_budget_is_shared_by_the_sidecars_of_all_controllers(kit: RedisKit) -> None:
    one, other = await two(kit)
    clock = [1000.0]
    sides = [Tenants(store, 3600.0, clock=lambda: clock[0]) for store in (one, other)]
    limit = RateLimit(100.0, scope="fleet")
    await create(one, Rule("l", destination="reviews", actions=(limit,)))
    await agree(one, other)
    clock[0] += GRACE + 1
    tenants = [await side.get("default") for side in sides]
    passed = dict.fromkeys(range(10), 0.0)
    good: list[bool] = []

    async def told() -> bool:
        clock[0] += 0.25
        for number in range(10):
            tenant, identity = tenants[number % 2], f"s{number}"
            tenant.fleet.opened(identity, WEB, clock[0])
            share = tenant.limits.told(identity).value.slices.get("l/0", 0.1)
            passed[number] += share * limit.requests * 0.25  # more calls come than may pass
            report = SliceReport("", "e", (Wanted("l/0", 50.0, int(passed[number]), share),))
            tenant.fleet.wants(identity, report)
            tenant.limits.take(identity, WEB, report, tenant.mirror.book, clock[0])
        for side, tenant in zip(sides, tenants, strict=True):
            await side.tell(tenant)
            tenant.limits.settle(clock[0])
        shares = [tenants[n % 2].limits.told(f"s{n}").value.slices.get("l/0", 0.0) for n in range(10)]
        good.append(0.9 <= sum(shares) <= 1.1 and min(shares) > 0)
        return all(good[-20:]) and len(good) > 20

    await eventually(told, within=20, what="shares that are one budget together, and stay so")


async def test_a_store_of_a_newer_version_is_refused_and_says_who_must_be_upgraded(kit: RedisKit) -> None:
    one = kit.make()
    await kit.up(one)
    await create(one, route("a"))
    await kit.stop(one)
    kit.server.ask("SET", "{a8c}:form", "2")
    other = kit.make()
    await other.tried()
    assert not other.up
    with pytest.raises(StoreUnavailable, match=r"not reached yet"):
        await other.load("default")
    kit.server.ask("SET", "{a8c}:form", "1")
    await kit.up(other)
    assert list((await other.load("default")).book.rules) == ["a"]
