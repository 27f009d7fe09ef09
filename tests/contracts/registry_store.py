"""What every registry store must do, in virtual time.

A store's test class inherits from the suite and gives a fixture ``kit``.
"""

import asyncio
from typing import Protocol

import msgspec
import pytest

from amalgam8.model.errors import CapacityExceeded, InstanceGone, InvalidInstance
from amalgam8.model.instance import Endpoint, Instance, instance_id
from amalgam8.registry.preservation import LIMIT
from amalgam8.registry.store import Happened, Store
from amalgam8.registry.view import Change


class Kit(Protocol):
    """How the suite makes a store and lets time pass for it."""

    happened: list[Happened]

    def make(self, capacity: int = -1, *, freeze_limit: float = 0.0) -> Store: ...

    def advance(self, seconds: float) -> None: ...


def instance(
    service: str = "reviews",
    port: int = 9080,
    *,
    ttl: int = 30,
    status: str = "UP",
    tags: tuple[str, ...] = (),
) -> Instance:
    endpoint = Endpoint("http", f"10.0.0.1:{port}")
    return Instance(instance_id(service, endpoint), service, endpoint, ttl, status, tags=tags)


async def changes(store: Store, tenant: str, after: int = 0) -> list[Change]:
    """All changes above a revision, once they are published."""
    feed = store.view(tenant).feed
    async with asyncio.timeout(5):
        while feed.published < feed.revision:
            await feed.newer(feed.published)
    return feed.since(after)[1]


async def silenced(kit: Kit, instances: int, silent: int, *, first_ttl: int = 30) -> tuple[Store, list[str]]:
    """A store whose expiry is frozen, and its ids: the first ``silent`` have not renewed for long."""
    store = kit.make(freeze_limit=LIMIT)
    ids = []
    for port in range(1, instances + 1):
        one = instance(port=port, ttl=first_ttl if port == 1 else 30)
        await store.register("t", one)
        ids.append(one.id)
    for _ in range(6):
        kit.advance(10)
        for identity in ids[silent:]:
            await store.renew("t", identity)
        assert await store.expire() == 0
    return store, ids


def turns(kit: Kit) -> list[str]:
    """What was told of freezes."""
    return [event.what for event in kit.happened if event.what in ("frozen", "thawed")]


class RegistryStoreSuite:
    async def test_a_registered_instance_is_seen_at_once(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance(tags=("v1",)))
        view = store.view("t")
        lease = view.get(instance().id)
        assert lease is not None
        assert lease.instance == instance(tags=("v1",))
        assert [one.instance.id for one in view.of_service("reviews")] == [instance().id]
        assert list(view.services()) == ["reviews"]
        assert len(view) == 1

    async def test_registering_again_replaces_all_content(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance(tags=("v1",)))
        again = msgspec.structs.replace(instance(ttl=60, status="STARTING"), metadata=msgspec.Raw(b'{"a":1}'))
        await store.register("t", again)
        assert [lease.instance for lease in store.view("t")] == [again]
        assert [change.instance is not None for change in await changes(store, "t")] == [True, True]
        assert [event.what for event in kit.happened] == ["registered", "changed"]

    async def test_equal_content_again_is_a_renewal_and_no_change(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        kit.advance(29)
        await store.register("t", instance())
        kit.advance(29)
        assert await store.expire() == 0
        assert store.view("t").feed.revision == 1
        assert [event.what for event in kit.happened] == ["registered", "renewed"]

    async def test_a_lease_holds_for_its_ttl_and_not_longer(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        kit.advance(30)
        assert await store.expire() == 0
        kit.advance(0.25)
        assert await store.expire() == 1
        assert await store.expire() == 0
        assert store.view("t").get(instance().id) is None
        assert list(store.view("t").services()) == []
        with pytest.raises(InstanceGone):
            await store.renew("t", instance().id)
        with pytest.raises(InstanceGone):
            await store.remove("t", instance().id)

    async def test_a_renewal_starts_the_ttl_again(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        for _ in range(5):
            kit.advance(20)
            await store.renew("t", instance().id)
            assert await store.expire() == 0
        kit.advance(30.5)
        assert await store.expire() == 1

    async def test_a_renewal_is_no_change_and_is_shown(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        lease = store.view("t").get(instance().id)
        assert lease is not None
        before = lease.shown().last_heartbeat
        kit.advance(5)
        await store.renew("t", instance().id)
        lease = store.view("t").get(instance().id)
        assert lease is not None
        assert lease.shown().last_heartbeat > before
        assert store.view("t").feed.revision == 1

    async def test_out_of_service_never_expires_and_starting_does(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance(port=1, status="OUT_OF_SERVICE"))
        await store.register("t", instance(port=2, status="STARTING"))
        kit.advance(100_000)
        assert await store.expire() == 1
        assert [lease.instance.status for lease in store.view("t")] == ["OUT_OF_SERVICE"]
        await store.register("t", instance(port=1))
        kit.advance(31)
        assert await store.expire() == 1

    async def test_going_out_of_service_ends_expiry(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        await store.register("t", instance(status="OUT_OF_SERVICE"))
        kit.advance(1000)
        assert await store.expire() == 0

    @pytest.mark.parametrize(("first", "second"), [(60, 10), (10, 60)])
    async def test_the_newest_ttl_counts(self, kit: Kit, first: int, second: int) -> None:
        store = kit.make()
        await store.register("t", instance(ttl=first))
        await store.register("t", instance(ttl=second))
        kit.advance(second)
        assert await store.expire() == 0
        kit.advance(0.25)
        assert await store.expire() == 1

    async def test_those_that_lapse_go_and_the_rest_stays(self, kit: Kit) -> None:
        store = kit.make()
        for port in range(1, 51):
            await store.register("t", instance(port=port, ttl=10 + port))
        kit.advance(35.5)
        assert await store.expire() == 25
        assert sorted(lease.instance.ttl for lease in store.view("t")) == list(range(36, 61))

    async def test_removal_is_at_once_and_only_once(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        await store.remove("t", instance().id)
        assert len(store.view("t")) == 0
        with pytest.raises(InstanceGone):
            await store.remove("t", instance().id)
        kit.advance(1000)
        assert await store.expire() == 0
        assert [event.what for event in kit.happened] == ["registered", "removed"]

    async def test_an_unknown_id_is_gone(self, kit: Kit) -> None:
        store = kit.make()
        for write in (store.renew, store.remove):
            with pytest.raises(InstanceGone):
                await write("t", "0123456789abcdef")
        assert store.view("t").feed.revision == 0

    async def test_changes_are_told_in_order_with_their_service(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance("a", 1))
        await store.register("t", instance("b", 2))
        await store.remove("t", instance("a", 1).id)
        kit.advance(31)
        await store.expire()
        told = [(change.service, change.instance is not None) for change in await changes(store, "t")]
        assert told == [("a", True), ("b", True), ("a", False), ("b", False)]
        assert store.view("t").feed.revision == 4
        assert [(event.what, event.service) for event in kit.happened] == [
            ("registered", "a"),
            ("registered", "b"),
            ("removed", "a"),
            ("expired", "b"),
        ]

    async def test_capacity_refuses_the_new_and_takes_the_known(self, kit: Kit) -> None:
        store = kit.make(capacity=2)
        await store.register("t", instance(port=1))
        await store.register("t", instance(port=2))
        with pytest.raises(CapacityExceeded, match="2"):
            await store.register("t", instance(port=3))
        await store.register("t", instance(port=2, tags=("v2",)))
        await store.register("u", instance(port=3))
        await store.remove("t", instance(port=1).id)
        await store.register("t", instance(port=3))
        assert len(store.view("t")) == 2

    async def test_capacity_zero_refuses_everything(self, kit: Kit) -> None:
        store = kit.make(capacity=0)
        with pytest.raises(CapacityExceeded):
            await store.register("t", instance())
        assert store.view("t").feed.revision == 0

    async def test_racing_registrations_never_pass_the_capacity(self, kit: Kit) -> None:
        store = kit.make(capacity=3)
        outcomes = await asyncio.gather(
            *(store.register("t", instance(port=port)) for port in range(1, 11)), return_exceptions=True
        )
        assert sum(isinstance(outcome, CapacityExceeded) for outcome in outcomes) == 7
        assert len(store.view("t")) == 3

    async def test_an_amendment_changes_what_it_says_and_renews(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance(tags=("v1",)))
        kit.advance(29)
        await store.amend("t", instance().id, lambda one: msgspec.structs.replace(one, status="STARTING"))
        kit.advance(29)
        assert await store.expire() == 0
        assert [lease.instance for lease in store.view("t")] == [instance(status="STARTING", tags=("v1",))]
        await store.amend("t", instance().id, lambda one: one)
        assert [change.new for change in await changes(store, "t")] == [True, False]
        assert [event.what for event in kit.happened] == ["registered", "changed", "renewed"]

    async def test_an_amendment_that_refuses_changes_nothing(self, kit: Kit) -> None:
        def refuse(_one: Instance) -> Instance:
            raise InvalidInstance("no")

        store = kit.make()
        await store.register("t", instance())
        with pytest.raises(InvalidInstance):
            await store.amend("t", instance().id, refuse)
        with pytest.raises(InstanceGone):
            await store.amend("t", "0123456789abcdef", lambda one: one)
        assert store.view("t").feed.revision == 1

    async def test_an_amendment_out_of_service_and_back(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance())
        await store.amend("t", instance().id, lambda _: instance(status="OUT_OF_SERVICE"))
        kit.advance(30.5)
        assert await store.expire() == 0
        await store.amend("t", instance().id, lambda _: instance())
        kit.advance(30.5)
        assert await store.expire() == 1

    async def test_an_extension_is_kept_and_not_shown(self, kit: Kit) -> None:
        store = kit.make()
        extended = msgspec.structs.replace(instance(), extension=msgspec.Raw(b'{"hostName":"a"}'))
        await store.register("t", extended)
        lease = store.view("t").get(instance().id)
        assert lease is not None
        assert lease.instance == extended
        assert lease.shown().extension is msgspec.UNSET
        assert b"hostName" not in lease.json()
        assert all(
            one is not None and one.extension is msgspec.UNSET
            for one in [change.shown() for change in await changes(store, "t")]
        )

    async def test_what_is_gone_is_told_with_what_it_was(self, kit: Kit) -> None:
        store = kit.make()
        heard: list[Change | None] = []
        await store.register("t", instance())
        store.view("t").feed.on_change(heard.append)
        await store.remove("t", instance().id)
        assert [change and change.last for change in heard] == [instance()]

    async def test_tenants_do_not_see_each_other(self, kit: Kit) -> None:
        store = kit.make()
        await store.register("t", instance(ttl=10))
        await store.register("u", instance(ttl=60, tags=("v2",)))
        kit.advance(11)
        assert await store.expire() == 1
        assert len(store.view("t")) == 0
        assert [lease.instance.tags for lease in store.view("u")] == [("v2",)]
        with pytest.raises(InstanceGone):
            await store.renew("t", instance().id)
        assert [change.instance is None for change in await changes(store, "t")] == [False, True]
        assert [change.instance is None for change in await changes(store, "u")] == [False]
        assert {event.tenant for event in kit.happened if event.what == "expired"} == {"t"}
        assert set(store.tenants()) == {"t", "u"}

    @pytest.mark.parametrize(("instances", "silent"), [(6, 5), (100, 30)])
    async def test_expiry_freezes_where_many_fall_silent(self, kit: Kit, instances: int, silent: int) -> None:
        store, ids = await silenced(kit, instances, silent)
        assert len(store.view("t")) == instances
        assert store.view("t").feed.revision == instances, "watchers would see a removal"
        assert turns(kit) == ["frozen"]
        for identity in ids:
            await store.renew("t", identity)
        assert await store.expire() == 0
        assert turns(kit) == ["frozen", "thawed"], "all are back, and nobody is waited for"
        kit.advance(20)
        for identity in ids[1:]:
            await store.renew("t", identity)
        kit.advance(10.5)
        assert await store.expire() == 1, "expiry goes on"

    async def test_who_does_not_come_back_with_the_others_has_a_third_of_a_ttl_more(self, kit: Kit) -> None:
        store, ids = await silenced(kit, 100, 30)
        for identity in ids[10:]:
            await store.renew("t", identity)
        assert await store.expire() == 0
        kit.advance(9.5)
        assert await store.expire() == 0
        await store.renew("t", ids[0])
        assert turns(kit) == ["frozen"]
        kit.advance(1)
        assert await store.expire() == 9
        assert turns(kit) == ["frozen", "thawed"]
        assert {lease.instance.id for lease in store.view("t")} == {ids[0], *ids[10:]}

    async def test_the_longest_ttl_of_those_that_were_held_decides(self, kit: Kit) -> None:
        store, ids = await silenced(kit, 100, 30, first_ttl=45)
        for identity in ids[10:]:
            await store.renew("t", identity)
        assert await store.expire() == 0
        kit.advance(14.5)
        assert await store.expire() == 0
        kit.advance(1)
        assert await store.expire() == 10

    async def test_a_calm_that_does_not_last_ends_no_freeze(self, kit: Kit) -> None:
        store, ids = await silenced(kit, 100, 30)
        for identity in ids[10:]:
            await store.renew("t", identity)
        assert await store.expire() == 0
        kit.advance(21)  # all are late, and nobody came
        assert await store.expire() == 0
        for identity in ids[10:]:
            await store.renew("t", identity)
        assert await store.expire() == 0
        kit.advance(9.5)
        assert await store.expire() == 0
        assert turns(kit) == ["frozen"]
        kit.advance(1)
        assert await store.expire() == 10

    async def test_a_freeze_that_runs_out_lets_all_go_and_starts_no_other(self, kit: Kit) -> None:
        store, ids = await silenced(kit, 100, 30)
        for _ in range(60):
            kit.advance(10)
            for identity in ids[30:]:
                await store.renew("t", identity)
            if await store.expire():
                break
        assert {lease.instance.id for lease in store.view("t")} == set(ids[30:])
        assert turns(kit) == ["frozen", "thawed"]
        kit.advance(10)
        assert await store.expire() == 0
        assert turns(kit) == ["frozen", "thawed"]

    async def test_few_expire_on_time(self, kit: Kit) -> None:
        store = kit.make(freeze_limit=LIMIT)
        for port in range(1, 5):
            await store.register("t", instance(port=port))
        kit.advance(30.25)
        assert await store.expire() == 4
        assert turns(kit) == []

    async def test_another_memory_is_another_epoch(self, kit: Kit) -> None:
        one = kit.make()
        await one.register("t", instance())
        assert one.epoch
        assert "." not in one.epoch
