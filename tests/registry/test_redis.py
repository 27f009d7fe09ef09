"""The shared store on a real Valkey: the contract, several registries at once, and a server that dies."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from amalgam8.model.errors import CapacityExceeded, InstanceGone, StoreUnavailable
from amalgam8.model.instance import Instance
from amalgam8.registry.redis import RedisStore
from amalgam8.registry.redis_scripts import FORM_KEY, NEWS
from amalgam8.registry.store import Happened
from amalgam8.registry.view import Change
from tests.conftest import eventually
from tests.contracts.registry_store import Kit, RegistryStoreSuite, instance
from tests.registry.redis_kit import RedisKit, redis_kit


class TestRedisStore(RegistryStoreSuite):
    @pytest.fixture
    async def kit(self) -> AsyncIterator[Kit]:
        async with redis_kit() as kit:
            yield kit


@pytest.fixture
async def kit() -> AsyncIterator[RedisKit]:
    async with redis_kit() as kit:
        yield kit


@pytest.fixture
async def durable() -> AsyncIterator[RedisKit]:
    async with redis_kit(durable=True) as kit:
        yield kit


def shown(store: RedisStore, tenant: str = "t") -> dict[str, tuple[str, ...]]:
    return {lease.instance.id: lease.instance.tags for lease in store.view(tenant)}


def status(to: str) -> Callable[[Instance], Instance]:
    return lambda one: msgspec.structs.replace(one, status=to)


async def agree(*stores: RedisStore, tenant: str = "t") -> None:
    """They show the same, at the same revision, and the store has exactly that."""

    async def same() -> bool:
        first = stores[0].view(tenant)
        return all(
            shown(store, tenant) == shown(stores[0], tenant)
            and store.view(tenant).feed.revision == first.feed.revision
            for store in stores
        )

    await eventually(same, what="the same in all registries")


async def test_what_one_registry_takes_all_show(kit: RedisKit) -> None:
    seen: list[Happened] = []
    one, two = kit.make(), kit.make(happened=seen)
    await kit.up(one, two)
    await one.register("t", instance(tags=("v1",)))
    await agree(one, two)
    assert shown(two) == {instance().id: ("v1",)}
    await two.register("t", instance(tags=("v2",)))
    await two.remove("t", instance().id)
    await agree(one, two)
    assert one.epoch == two.epoch
    assert [event.what for event in kit.happened] == ["registered", "changed", "removed"]
    assert [event.what for event in seen] == ["registered", "changed", "removed"]


async def test_a_registry_that_joins_shows_all_and_tells_nothing(kit: RedisKit) -> None:
    one = kit.make()
    await one.register("t", instance())
    await one.register("u", instance())
    seen: list[Happened] = []
    two = kit.make(happened=seen)
    await kit.up(two)
    assert shown(two) == shown(one)
    assert set(two.tenants()) == {"t", "u"}
    assert two.view("t").feed.revision == 1
    assert seen == []


async def test_a_renewal_at_one_is_shown_by_all(kit: RedisKit) -> None:
    one, two = kit.make(), kit.make()
    await one.register("t", instance())
    await agree(one, two)
    kit.advance(5)
    await one.renew("t", instance().id)
    await two.expire()
    first, second = one.view("t").get(instance().id), two.view("t").get(instance().id)
    assert first is not None
    assert second is not None
    assert first.shown() == second.shown()
    assert two.view("t").feed.revision == 1


async def test_racing_writes_never_diverge(kit: RedisKit) -> None:
    stores = [kit.make(), kit.make(), kit.make()]
    told: dict[RedisStore, list[Change]] = {store: [] for store in stores}
    dice = random.Random(5)

    async def watch(store: RedisStore) -> None:
        """What a watcher makes of the feed is what the view shows."""
        feed, revision = store.view("t").feed, 0
        while True:
            revision, changes = feed.since(revision)
            told[store] += changes
            await feed.newer(revision)

    async def writer(store: RedisStore) -> None:
        for _ in range(150):
            port, deed = dice.randint(1, 8), dice.random()
            try:
                if deed < 0.6:
                    await store.register("t", instance(port=port, tags=(str(dice.randint(1, 3)),)))
                elif deed < 0.8:
                    await store.remove("t", instance(port=port).id)
                else:
                    await store.amend(
                        "t", instance(port=port).id, status(dice.choice(["UP", "OUT_OF_SERVICE"]))
                    )
            except InstanceGone:
                pass

    await kit.up(*stores)
    for store in stores:  # who comes to know the tenant later skips its beginning
        with pytest.raises(InstanceGone):
            await store.remove("t", "nobody")
    watchers = [asyncio.create_task(watch(store)) for store in stores]
    await asyncio.gather(*(writer(store) for store in stores for _ in range(3)))
    await agree(*stores)

    async def all_told() -> bool:
        return all(store.view("t").feed.revision == len(told[store]) for store in stores)

    await eventually(all_told, what="all changes published")
    for watcher in watchers:
        watcher.cancel()
    await asyncio.wait(watchers)
    # A lease may have been renewed on the way, which shows; but who, what and in what order is the same.
    orders = [
        [(change.id, change.instance and (change.instance.tags, change.instance.status)) for change in one]
        for one in told.values()
    ]
    assert orders[0] == orders[1] == orders[2]
    late = kit.make()
    await kit.up(late)
    assert shown(late) == shown(stores[0])


async def test_racing_registries_never_pass_the_capacity(kit: RedisKit) -> None:
    stores = [kit.make(capacity=7), kit.make(capacity=7)]
    outcomes = await asyncio.gather(
        *(stores[port % 2].register("t", instance(port=port)) for port in range(1, 41)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, CapacityExceeded) for outcome in outcomes) == 33
    assert sum(outcome is None for outcome in outcomes) == 7
    await agree(*stores)
    assert len(shown(stores[0])) == 7


async def test_all_see_each_expiry_exactly_once(kit: RedisKit) -> None:
    seen: list[list[Happened]] = [[], [], []]
    stores = [kit.make(happened=one) for one in seen]
    for port in range(1, 101):
        await stores[port % 3].register("t", instance(port=port))
    await agree(*stores)
    kit.advance(31)
    counts = await asyncio.gather(*(store.expire() for store in stores for _ in range(3)))
    assert sum(counts) == 100
    await agree(*stores)
    for one in seen:
        expired = [event.id for event in one if event.what == "expired"]
        assert len(expired) == 100
        assert len(set(expired)) == 100


async def test_more_than_one_look_expires_them_all(kit: RedisKit) -> None:
    store = kit.make()
    await asyncio.gather(*(store.register("t", instance(port=port)) for port in range(1, 2501)))
    kit.advance(31)
    assert await store.expire() == 2500
    assert len(store.view("t")) == 0


async def test_an_amendment_does_not_lose_what_others_change(kit: RedisKit) -> None:
    one, two = kit.make(), kit.make()
    await one.register("t", instance())
    await agree(one, two)
    await kit.stop(two)
    await one.register("t", instance(tags=("new",)))
    setting = asyncio.create_task(two.amend("t", instance().id, status("OUT_OF_SERVICE")))
    kit.follow(two)
    await eventually_done(setting)
    await agree(one, two)
    [lease] = one.view("t")
    assert (lease.instance.status, lease.instance.tags) == ("OUT_OF_SERVICE", ("new",))
    kit.advance(1000)
    assert await one.expire() == 0
    with pytest.raises(InstanceGone):
        await one.amend("t", "0123456789abcdef", status("UP"))


async def eventually_done(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        try:
            await task
        except StoreUnavailable:
            raise AssertionError("a write was refused while the store was up") from None


async def test_many_renewals_at_once_name_the_unknown(kit: RedisKit) -> None:
    store = kit.make()
    for port in range(1, 11):
        await store.register("t", instance(port=port))
    ids = [instance(port=port).id for port in range(1, 11)]
    kit.advance(29)
    assert await store.renew_many("t", ["0123456789abcdef", *ids]) == ["0123456789abcdef"]
    kit.advance(29)
    assert await store.expire() == 0


async def test_one_who_missed_entries_loads_them_all(kit: RedisKit) -> None:
    seen: list[Happened] = []
    one, two = kit.make(length=10), kit.make(length=10, happened=seen)
    for port in range(1, 6):
        await one.register("t", instance(port=port))
    await agree(one, two)
    await kit.stop(two)
    await one.remove("t", instance(port=1).id)
    await one.register("t", instance(port=2, tags=("new",)))
    for _ in range(3):
        for port in range(100, 250):
            await one.register("t", instance(port=port, tags=(str(_),)))
    assert int(kit.server.ask("XLEN", "a8r:{t}:stream").removeprefix(":")) < 300
    feed = two.view("t").feed
    assert feed.revision == 5
    kit.follow(two)
    await agree(one, two)
    assert len(shown(two)) == 154
    assert two.view("t").feed is feed, "no need for watchers to go"
    last = {event.id: event.what for event in seen}
    assert last[instance(port=1).id] == "removed"
    assert last[instance(port=2).id] == "changed"
    assert last[instance(port=249).id] == "registered"


async def test_ten_thousand_instances_are_loaded_whole(kit: RedisKit) -> None:
    one = kit.make()
    for start in range(1, 10_001, 500):  # all at once would wait for their turns for longer than they may
        await asyncio.gather(
            *(one.register("t", instance(f"s{n % 100}", n)) for n in range(start, start + 500))
        )
    two = kit.make()
    await kit.up(two)
    assert len(two.view("t")) == 10_000
    assert len(two.view("t").services()) == 100
    await agree(one, two)


async def test_before_the_store_was_reached_nothing_is_known(kit: RedisKit) -> None:
    kit.server.kill()
    store = kit.make()
    with pytest.raises(StoreUnavailable):
        store.view("t")
    with pytest.raises(StoreUnavailable):
        await store.register("t", instance())
    kit.server.start()
    await kit.up(store)
    await store.register("t", instance())
    assert len(store.view("t")) == 1


async def test_a_store_that_was_killed_comes_back_as_it_was(
    durable: RedisKit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amalgam8")
    one, two = durable.make(), durable.make()
    for port in range(1, 51):
        await one.register("t", instance(port=port))
    await agree(one, two)
    await durable.up(one, two)
    epoch, feed = one.epoch, two.view("t").feed
    caplog.clear()
    durable.server.kill()
    for store in (one, two):
        for write in (
            store.register("t", instance(port=99)),
            store.renew("t", instance(port=1).id),
            store.remove("t", instance(port=1).id),
        ):
            with pytest.raises(StoreUnavailable):
                await write
        assert await store.expire() == 0
        assert len(shown(store)) == 50, "reads go on"
    await asyncio.sleep(0.3)  # long enough for several attempts, which must not be logged
    durable.server.start()
    await durable.up(one, two)
    await two.remove("t", instance(port=1).id)
    await one.register("t", instance(port=51))
    await agree(one, two)
    assert len(shown(one)) == 50
    assert (one.epoch, two.epoch) == (epoch, epoch)
    assert two.view("t").feed is feed, "streams go on"
    texts = [record.getMessage() for record in caplog.records]
    assert texts.count("the store answers") == 2
    assert len(texts) == 4


async def test_a_store_that_lost_its_data_is_given_it_back(durable: RedisKit) -> None:
    seen: list[Happened] = []
    one, two = durable.make(), durable.make(happened=seen)
    for port in range(1, 51):
        await one.register("t", instance(port=port, ttl=60))
    await one.register("u", instance(status="OUT_OF_SERVICE"))
    await one.remove("t", instance(port=50).id)
    await agree(one, two)
    await agree(one, two, tenant="u")
    await durable.up(one, two)
    before, epoch, told = shown(one), one.epoch, len(seen)
    feed = two.view("t").feed
    watcher = asyncio.create_task(feed.newer(feed.revision))
    durable.server.kill()
    await durable.down(one, two)
    durable.server.lose()
    durable.advance(40)
    durable.server.start()
    await durable.up(one, two)

    async def both_anew() -> bool:
        return one.epoch == two.epoch != epoch

    await eventually(both_anew, what="another epoch")
    await agree(one, two)
    assert shown(one) == before
    assert shown(one, "u") == {instance().id: ()}
    assert len(seen) == told, "nothing has happened to any instance"
    with pytest.raises(ConnectionResetError):  # its watchers come back, and hear of the epoch
        await watcher
    late = durable.make()
    await durable.up(late)
    assert shown(late) == before
    durable.advance(59)
    await one.renew("t", instance(port=1).id)
    durable.advance(2)
    assert await two.expire() == 48
    await agree(one, two, late)
    assert list(shown(one)) == [instance(port=1).id]


async def test_a_store_that_lost_the_end_is_given_it_back(durable: RedisKit) -> None:
    """A server that does not write each change to disk may come back some seconds younger."""
    one, two = durable.make(), durable.make()
    await one.register("t", instance(port=1))
    await one.register("t", instance(port=2))
    await agree(one, two)
    await durable.up(one, two)
    durable.server.kill()
    await durable.down(one, two)
    [log] = (durable.server.folder / "appendonlydir").glob("*.incr.aof")
    saved = log.read_bytes()
    durable.server.start()
    await durable.up(one, two)
    await one.remove("t", instance(port=1).id)
    await one.register("t", instance(port=3))
    await agree(one, two)
    epoch = one.epoch
    durable.server.kill()
    await durable.down(one, two)
    log.write_bytes(saved)
    durable.server.start()

    async def anew() -> bool:
        return one.epoch == two.epoch != epoch and one.up and two.up

    await eventually(anew, what="another epoch")
    await agree(one, two)
    assert set(shown(one)) == {instance(port=2).id, instance(port=3).id}
    late = durable.make()
    await durable.up(late)
    await agree(late, one)


async def test_data_lost_under_way_are_noticed_at_the_next_look(kit: RedisKit) -> None:
    store = kit.make()
    await store.register("t", instance())
    await kit.up(store)
    epoch = store.epoch
    assert kit.server.ask("FLUSHALL") == "+OK"
    assert await store.expire() == 0

    async def anew() -> bool:
        return store.epoch != epoch and store.up

    await eventually(anew, what="another epoch")
    assert list(shown(store)) == [instance().id]
    await store.renew("t", instance().id)


async def test_a_server_that_takes_no_writes_is_down_and_quiet(
    kit: RedisKit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amalgam8")
    store = kit.make()
    await store.register("t", instance())
    await kit.up(store)
    caplog.clear()
    assert kit.server.ask("REPLICAOF", "127.0.0.1", "1") == "+OK"
    with pytest.raises(StoreUnavailable):
        await store.renew("t", instance().id)
    assert len(shown(store)) == 1
    await asyncio.sleep(1)
    assert not store.up
    assert len(caplog.records) == 1
    assert kit.server.ask("REPLICAOF", "NO", "ONE") == "+OK"
    await kit.up(store)
    await store.renew("t", instance().id)


async def test_leases_stand_still_while_nobody_could_renew_them(kit: RedisKit) -> None:
    store = kit.make(pause=1.0)
    await store.register("t", instance())
    for _ in range(29):
        kit.advance(0.9)
        assert await store.expire() == 0
    kit.advance(3600)  # server or registries were away
    assert await store.expire() == 0
    for _ in range(4):
        kit.advance(0.9)
        assert await store.expire() == 0
    kit.advance(-86400)  # the server's clock was set back
    assert await store.expire() == 0
    kit.advance(0.9)
    assert await store.expire() == 1


async def test_leases_lapse_by_the_servers_clock() -> None:
    async with redis_kit(real=True) as kit:
        store = kit.make(pause=1.0)
        await store.register("t", instance(ttl=1))
        assert await store.expire() == 0

        async def lapsed() -> bool:
            return await store.expire() == 1

        await eventually(lapsed, what="expiry")
        assert len(store.view("t")) == 0


@pytest.mark.parametrize(("instances", "silent"), [(6, 5), (100, 30), (1000, 300)])
async def test_expiry_freezes_where_many_fall_silent_and_goes_on_when_they_are_back(
    kit: RedisKit, instances: int, silent: int
) -> None:
    one, two = kit.make(freeze_limit=600), kit.make(freeze_limit=600)
    ids = [instance(port=port).id for port in range(1, instances + 1)]
    for port in range(1, instances + 1):
        await one.register("t", instance(port=port))
    await agree(one, two)
    for _ in range(10):
        kit.advance(15)
        await one.renew_many("t", ids[silent:])
        assert await two.expire() == await one.expire() == 0
    assert one.frozen("t")
    assert two.frozen("t")
    assert one.view("t").feed.revision == instances
    await one.renew_many("t", ids[1:])
    assert await two.expire() == await one.expire() == 0
    kit.advance(10)
    assert await two.expire() == 1, "one that never came back is one alone, once it had the time to"
    assert await one.expire() == 0
    assert not one.frozen("t")
    assert not two.frozen("t")
    told = [event.what for event in kit.happened if event.what in ("frozen", "thawed")]
    assert sorted(told) == ["frozen", "frozen", "thawed", "thawed"], "once by each registry"


async def test_tenants_freeze_apart(kit: RedisKit) -> None:
    one, two = kit.make(freeze_limit=600), kit.make(freeze_limit=600)
    for port in range(1, 21):
        await one.register("t", instance(port=port))
    await two.register("other", instance())
    await agree(one, two)
    await agree(one, two, tenant="other")
    kit.advance(31)
    assert await one.expire() + await two.expire() == 1
    await agree(one, two, tenant="other")
    assert (len(shown(one)), len(shown(one, "other"))) == (20, 0)
    assert (one.frozen("t"), one.frozen("other")) == (True, False)
    assert {event.tenant for event in kit.happened if event.what == "frozen"} == {"t"}


async def test_one_alone_expires_on_time(kit: RedisKit) -> None:
    store = kit.make(freeze_limit=600)
    for port in range(1, 5):
        await store.register("t", instance(port=port))
    kit.advance(30.25)
    assert await store.expire() == 4
    assert not store.frozen("t")


async def test_a_freeze_ends_and_starts_no_other(kit: RedisKit) -> None:
    store = kit.make(freeze_limit=600)
    for port in range(1, 2001):
        await store.register("t", instance(port=port))
    kit.advance(31)
    assert await store.expire() == 0
    kit.advance(599)
    assert await store.expire() == 0
    for port in range(3001, 3007):
        await store.register("t", instance(port=port))
    kit.advance(2)
    assert await store.expire() == 2000
    assert len(store.view("t")) == 6
    kit.advance(31)
    assert await store.expire() == 0
    assert store.frozen("t"), "others may be held anew"


async def test_a_store_of_a_newer_version_is_left_alone_and_says_who_must_be_upgraded(
    kit: RedisKit, caplog: pytest.LogCaptureFixture
) -> None:
    one = kit.make()
    await kit.up(one)
    await one.register("t", instance())
    kit.server.ask("SET", FORM_KEY, "2")
    kit.server.ask("XADD", NEWS, "*", "epoch", "another")  # as whoever changes the form has to
    await kit.down(one)

    async def told() -> bool:
        reasons = [getattr(record, "a8", {}).get("reason", "") for record in caplog.records]
        return any("form 2; this one knows 1): upgrade this registry" in reason for reason in reasons)

    await eventually(told, what="the reason in the log")
    other = kit.make()
    await other.tried()
    assert not other.up
    before = kit.server.ask("DEBUG", "DIGEST"), kit.server.ask("DBSIZE")
    for store in (one, other):
        with pytest.raises(StoreUnavailable):
            await store.register("t", instance(port=2))
    assert shown(one) == {instance().id: ()}, "what it knew it goes on to show"
    with pytest.raises(StoreUnavailable, match=r"not reached yet"):
        other.view("t")
    assert (kit.server.ask("DEBUG", "DIGEST"), kit.server.ask("DBSIZE")) == before
    kit.server.ask("SET", FORM_KEY, "1")
    await kit.up(one, other)
    await agree(one, other)
    await other.register("t", instance(port=2))
    await agree(one, other)


async def test_a_store_that_was_written_before_forms_were_counted_is_of_the_first(kit: RedisKit) -> None:
    one = kit.make()
    await one.register("t", instance())
    await kit.stop(one)
    kit.server.ask("DEL", FORM_KEY)
    other = kit.make()
    await kit.up(other)
    assert list(shown(other)) == [instance().id]
    assert kit.server.ask("GET", FORM_KEY) == "1"
