"""Controllers on one Kubernetes: together, cut off, and beside people with kubectl."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from amalgam8.controller import kubernetes_objects as objects
from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook, Written
from amalgam8.controller.tenants import Tenants
from amalgam8.model.caller import caller
from amalgam8.model.errors import BodyTooLarge, StoreUnavailable, Superseded
from tests.conftest import eventually
from tests.controller.kubernetes_cluster import (
    NAMESPACE,
    KubernetesKit,
    agree,
    create,
    kubernetes_kit,
    opened,
    states,
    until,
)
from tests.controller.rules import route, write


@pytest.fixture
async def kit() -> AsyncIterator[KubernetesKit]:
    async with kubernetes_kit() as kit:
        yield kit


async def test_what_one_writes_the_other_shows(kit: KubernetesKit) -> None:
    one, other = await opened(kit), await opened(kit)
    assert (one.epoch, one.secret) == (other.epoch, other.secret)
    mirror = await other.load("default")
    book = await create(one, route("a"))
    await agree(one, other)
    assert mirror.book == book
    assert mirror.touched_since(0) == {"reviews"}
    late = await opened(kit)
    assert await late.log("default") == await one.log("default")


async def test_racing_writers_never_diverge(kit: KubernetesKit) -> None:
    one, other = await opened(kit), await opened(kit)
    sides = [Tenants(store, 3600.0) for store in (one, other)]

    async def work(number: int) -> str:
        tenants = sides[number % 2]
        rule = route(f"rule-{number}")
        tenant = await tenants.get("default")
        await tenants.write(tenant, lambda book, write: rulebook.create(book, [rule], write))
        return rule.id

    ids = await asyncio.gather(*(work(number) for number in range(30)))
    book = await agree(one, other)
    assert set(book.rules) == set(ids)
    assert book.revision == 30
    await until(lambda: set(states(kit)) == set(ids), "an object of each")
    assert all(state == "valid" for state, _ in states(kit).values()) or await _settled(kit)


async def _settled(kit: KubernetesKit) -> bool:
    await until(lambda: all(state == "valid" for state, _ in states(kit).values()), "judged rules")
    return True


async def test_old_revisions_go_and_what_they_wrote_stays(kit: KubernetesKit) -> None:
    store = await opened(kit, kept=3)
    for number in range(6):
        await create(store, route(f"rule-{number}"))
    await until(lambda: kit.cluster.revisions() == [f"default.{n}" for n in (4, 5, 6)], "three revisions")
    await kit.stop(store)
    again = await opened(kit, kept=3)
    book = (await again.load("default")).book
    assert (book.revision, len(book.rules)) == (6, 6)
    assert book.written["rule-0"] == Written(1, book.written["rule-0"].at)


async def test_while_the_api_is_away_reads_go_on(kit: KubernetesKit) -> None:
    store = await opened(kit)
    book = await create(store, route("a"))
    kit.cluster.refuse = 503
    kit.cluster.cut()
    change = rulebook.create(book, [route("b")], write())
    with pytest.raises(StoreUnavailable, match="Kubernetes"):
        await store.append("default", 1, change)
    with pytest.raises(StoreUnavailable):
        await store.current("default")
    assert (await store.load("default")).book == book
    kit.cluster.refuse = 0
    await store.append("default", 1, change)
    await until(lambda: set(states(kit)) == {"a", "b"}, "the objects of both")


async def test_an_import_that_never_ended_counts_for_nothing(kit: KubernetesKit) -> None:
    store = await opened(kit)
    book = await create(store, route("a"), route("b"))
    await until(lambda: set(states(kit)) == {"a", "b"}, "both objects")
    await kit.stop(store)
    for identity, rule in book.rules.items():
        document = objects.rule_object("copy", rule, book.written[identity], imported=9)
        text = msgspec.json.decode(msgspec.json.encode(document))
        text["metadata"]["namespace"] = NAMESPACE
        kit.cluster.put("routingrules", text)
    assert len(kit.cluster.rules()) == 4
    again = await opened(kit)
    assert (await again.load("copy")).book == Rulebook()
    await until(lambda: len(kit.cluster.rules()) == 2, "no leftovers")


async def test_an_import_shows_at_the_other_controller(kit: KubernetesKit) -> None:
    one, other = await opened(kit), await opened(kit)
    await create(one, route("a"))
    book = await create(one, route("b"))
    await other.load("copy")
    await one.restore("copy", book, [])

    async def shown() -> bool:
        return (await other.load("copy")).book == book

    await eventually(shown, what="an import")


async def test_revisions_that_were_lost_begin_another_epoch(kit: KubernetesKit) -> None:
    store = await opened(kit)
    await create(store, route("a"))
    await create(store, route("b"))
    await until(lambda: set(states(kit)) == {"a", "b"}, "both objects")
    before, feed = store.epoch, (await store.load("default")).feed
    waiting = asyncio.create_task(feed.newer(2))
    await asyncio.sleep(0)
    # As after a restore of an older backup: the newest revision and its rule are not there any more.
    del kit.cluster.objects["rulerevisions"][NAMESPACE, "default.2"]
    del kit.cluster.objects["routingrules"][NAMESPACE, "b"]
    kit.cluster.forget()
    kit.cluster.cut()
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(20):
            await waiting
    assert store.epoch != before
    assert sorted((await store.load("default")).book.rules) == ["a"]


async def test_a_change_too_large_for_one_object_is_refused(kit: KubernetesKit) -> None:
    store = await opened(kit)
    many = [route(str(number), description="x" * 1000) for number in range(1100)]
    with pytest.raises(BodyTooLarge, match="several parts"):
        await create(store, *many)
    assert (await store.load("default")).book.revision == 0


async def test_before_anything_was_listed_nothing_is_known(kit: KubernetesKit) -> None:
    kit.cluster.refuse = 403
    store = kit.make()
    await store.tried()
    with pytest.raises(StoreUnavailable, match=r"not reached yet: .*not allowed \(403\)"):
        await store.load("default")
    kit.cluster.refuse = 0
    await kit.up(store)
    assert (await store.load("default")).book == Rulebook()


async def test_sidecars_are_remembered_for_whoever_comes(kit: KubernetesKit) -> None:
    store = await opened(kit)
    await store.remember("default", {"a": caller("web", ["v1"]), "b": caller("api")})
    await store.remember("shop", {"c": caller("web")})
    await store.remember("default", {"b": None})
    later = await opened(kit)
    assert later.sidecars("default") == {"a": caller("web", ["v1"])}
    assert later.sidecars("shop") == {"c": caller("web")}


async def test_the_slower_writer_sees_what_the_other_wrote(kit: KubernetesKit) -> None:
    one, other = await opened(kit), await opened(kit)
    await one.load("default")
    await other.load("default")
    mine, theirs = (rulebook.create(Rulebook(), [route(name)], write()) for name in "ab")
    results = await asyncio.gather(
        one.append("default", 0, mine), other.append("default", 0, theirs), return_exceptions=True
    )
    assert [type(result) for result in results].count(Superseded) == 1
    loser = one if isinstance(results[0], Superseded) else other
    assert (await loser.load("default")).book.revision == 1
