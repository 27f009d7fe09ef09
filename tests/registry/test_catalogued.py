"""Leases and catalogues in one view: who wins, what is told, and what nobody may do to a catalogue's."""

import msgspec
import pytest

from amalgam8.catalogs.catalog import NEVER_HEARD, Teller
from amalgam8.model.errors import CapacityExceeded, InstanceGone
from amalgam8.model.instance import Instance
from amalgam8.registry.catalogued import CataloguedStore
from amalgam8.registry.query import parse_query
from amalgam8.registry.store import Store
from tests.contracts.registry_store import Kit, RegistryStoreSuite, changes, instance
from tests.registry.kit import MemoryKit


class Silent:
    """A catalogue that the test tells itself."""

    name = "silent"

    async def run(self, teller: Teller) -> None:
        raise NotImplementedError


class CataloguedKit(MemoryKit):
    """Makes stores with one catalogue, which ``tell`` fills."""

    def make(self, capacity: int = -1, *, freeze_limit: float = 0) -> Store:  # type: ignore[override]
        store = CataloguedStore(super().make(capacity, freeze_limit=freeze_limit), [Silent()])
        self.catalogs = store.catalogs
        return store

    def tell(self, *instances: Instance, tenant: str = "t") -> None:
        self.catalogs.put(0, {tenant: {one.id: listed(one) for one in instances}})


def listed(one: Instance) -> Instance:
    return msgspec.structs.replace(one, ttl=0, last_heartbeat=NEVER_HEARD)


class TestCataloguedStore(RegistryStoreSuite):
    """With catalogues that have nothing, a store like any other."""

    @pytest.fixture
    def kit(self) -> Kit:
        return CataloguedKit()


async def test_what_a_catalogue_tells_is_read_like_a_lease() -> None:
    kit = CataloguedKit()
    store = kit.make()
    await store.register("t", instance("a", 1))
    kit.tell(instance("a", 2, tags=("v2",)), instance("b", 3))
    view = store.view("t")
    assert {lease.instance.endpoint.value for lease in view.of_service("a")} == {"10.0.0.1:1", "10.0.0.1:2"}
    assert set(view.services()) == {"a", "b"}
    found = list(view.select(parse_query([("tags", "v2")])))
    assert [lease.shown().last_heartbeat for lease in found] == [NEVER_HEARD]
    assert b'"last_heartbeat":"0001-01-01T00:00:00Z"' in found[0].json()
    assert len(view) == 3
    assert set(store.tenants()) == {"t"}
    kit.tell(instance("b", 3))
    assert set(view.services()) == {"a", "b"}
    kit.tell()
    assert [lease.instance.service_name for lease in view] == ["a"]


async def test_what_was_told_before_anybody_asked_is_there() -> None:
    kit = CataloguedKit()
    store = kit.make()
    kit.tell(instance("a"), tenant="other")
    assert list(store.tenants()) == ["other"]
    assert [lease.instance.service_name for lease in store.view("other")] == ["a"]
    assert len(store.view("t")) == 0


async def test_a_lease_hides_an_equal_id_until_it_ends() -> None:
    kit = CataloguedKit()
    store = kit.make()
    kit.tell(instance(tags=("told",)))
    view = store.view("t")
    await store.register("t", instance(tags=("leased",)))
    kit.tell(instance(tags=("told", "anew")))
    assert [lease.instance.tags for lease in view] == [("leased",)]
    kit.advance(31)
    assert await store.expire() == 1
    assert [lease.instance.tags for lease in view] == [("told", "anew")]
    await store.register("t", instance(tags=("leased",)))
    kit.tell()
    await store.remove("t", instance().id)
    assert len(view) == 0
    told = [change.instance and change.instance.tags for change in await changes(store, "t")]
    assert told == [("told",), ("leased",), ("told", "anew"), ("leased",), None]


async def test_the_same_again_is_no_change() -> None:
    kit = CataloguedKit()
    store = kit.make()
    view = store.view("t")
    kit.tell(instance())
    kit.tell(instance())
    assert view.feed.revision == 1


async def test_another_service_under_the_same_id_leaves_the_old_one() -> None:
    kit = CataloguedKit()
    store = kit.make()
    view = store.view("t")
    one = msgspec.structs.replace(instance("a"), id="pod-80")
    kit.tell(one)
    kit.tell(msgspec.structs.replace(one, service_name="b"))
    assert list(view.services()) == ["b"]
    assert [(change.service, change.instance is None) for change in await changes(store, "t")] == [
        ("a", False),
        ("a", True),
        ("b", False),
    ]


async def test_nobody_renews_or_removes_what_a_catalogue_has_and_it_takes_no_room() -> None:
    kit = CataloguedKit()
    store = kit.make(capacity=1)
    kit.tell(instance(port=1), instance(port=2))
    for write in (store.renew, store.remove):
        with pytest.raises(InstanceGone):
            await write("t", instance(port=1).id)
    with pytest.raises(InstanceGone):
        await store.amend("t", instance(port=1).id, lambda one: one)
    await store.register("t", instance(port=3))
    with pytest.raises(CapacityExceeded):
        await store.register("t", instance(port=4))
    kit.advance(100_000)
    assert await store.expire() == 1
    assert len(store.view("t")) == 2


async def test_leases_that_begin_anew_are_shown_anew() -> None:
    kit = CataloguedKit()
    store = kit.make()
    view = store.view("t")
    kit.tell(instance(port=1))
    await store.register("t", instance(port=2))
    assert isinstance(store, CataloguedStore)
    inner = store.leased("t")
    assert inner is not None
    inner.feed.reset(7)
    assert view.feed.revision == 2
    assert {lease.instance.endpoint.value for lease in view} == {"10.0.0.1:1", "10.0.0.1:2"}
