"""What every store of rules keeps to: order, atomicity, tenants apart, wake-ups, memory or a new epoch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from amalgam8.controller import book as book_module
from amalgam8.controller import declare, rulebook, undo
from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.model.caller import caller
from amalgam8.model.errors import NotEmpty, Superseded
from amalgam8.model.rule import Rule
from amalgam8.runtime.feed import Gap
from tests.controller.kubernetes_cluster import KubernetesKit
from tests.controller.redis_kit import RedisKit
from tests.controller.rules import NOON, fault, route, write
from tests.valkey import Valkey, valkey

Opener = Callable[[], Awaitable[Store]]


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(durable=True) as running:
        yield running


@pytest.fixture(params=["memory", "sqlite", "redis", "kubernetes"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async def memory() -> Store:
        return MemoryStore()

    async def sqlite() -> Store:
        return await open_sqlite(tmp_path / "controller.db")

    if request.param == "kubernetes":
        async with KubernetesKit() as cluster:

            async def kubernetes() -> Store:
                store = cluster.make()
                await cluster.up(store)
                return store

            yield kubernetes
        return
    if request.param != "redis":
        yield {"memory": memory, "sqlite": sqlite}[request.param]
        return
    server: Valkey = request.getfixturevalue("server")
    server.ask("FLUSHALL")
    async with RedisKit(server) as kit:

        async def redis() -> Store:
            store = kit.make()
            await store.tried()
            return store

        yield redis


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[Store]:
    opened = await opener()
    yield opened
    await opened.close()


async def create(store: Store, tenant: str, *rules: Rule, now: float = NOON) -> Rulebook:
    book = (await store.load(tenant)).book
    await store.append(tenant, book.revision, rulebook.create(book, rules, write(now)))
    return (await store.load(tenant)).book


async def test_an_unknown_tenant_is_empty(store: Store) -> None:
    assert (await store.load("default")).book == Rulebook()
    assert list(store.tenants()) == []


async def test_a_change_shows_when_append_returns(store: Store) -> None:
    mirror = await store.load("default")
    change = rulebook.create(mirror.book, [route("a"), fault("b")], write())
    await store.append("default", 0, change)
    assert mirror.book == book_module.apply(Rulebook(), change)
    assert await store.load("default") is mirror
    assert list(store.tenants()) == ["default"]


async def test_all_kinds_of_change(store: Store) -> None:
    book = await create(store, "default", route("a"), route("b"), fault("f", ttl=5.0))
    steps: list[Callable[[Rulebook], Change | None]] = [
        lambda book: rulebook.replace(book, [route("a", "ratings", "v2")], write(NOON + 1)),
        lambda book: rulebook.remove(book, Selection(ids=("b",)), write(NOON + 2)),
        lambda book: rulebook.replace_for(book, "route", "reviews", [route("n")], write(NOON + 3)),
        lambda book: rulebook.lapse(book, write(NOON + 6)),
        lambda book: rulebook.remove(book, Selection(tags=("none",)), write(NOON + 7)),
    ]
    for make in steps:
        change = make(book)
        assert change is not None
        await store.append("default", book.revision, change)
        book = book_module.apply(book, change)
        assert (await store.load("default")).book == book
    assert sorted(book.rules) == ["a", "n"]
    assert book.revision == 6


async def test_the_second_of_two_writers_is_superseded(store: Store) -> None:
    book = await create(store, "default", route("a"))
    one, two = (rulebook.create(book, [route(name)], write()) for name in ("one", "two"))
    results = await asyncio.gather(
        store.append("default", 1, one), store.append("default", 1, two), return_exceptions=True
    )
    assert [type(result) for result in results].count(Superseded) == 1
    book = (await store.load("default")).book
    assert book.revision == 2
    assert len(book.rules) == 2


@pytest.mark.parametrize("expected", [0, 2, -1])
async def test_a_change_made_for_another_revision_is_superseded(store: Store, expected: int) -> None:
    book = await create(store, "default", route("a"))
    with pytest.raises(Superseded):
        await store.append("default", expected, rulebook.create(book, [route("b")], write()))
    assert (await store.load("default")).book == book


async def test_tenants_are_apart(store: Store) -> None:
    await create(store, "one", route("a"))
    book = await create(store, "two", route("a", version="v2"), route("b"))
    await store.append("two", 1, rulebook.remove(book, Selection(), write()))
    one, two = await store.load("one"), await store.load("two")
    assert (list(one.book.rules), one.book.revision) == (["a"], 1)
    assert (list(two.book.rules), two.book.revision) == ([], 2)
    assert one.feed.revision == 1
    assert sorted(store.tenants()) == ["one", "two"]


async def test_followers_wake_up(store: Store) -> None:
    mirror = await store.load("default")
    waiting = asyncio.create_task(mirror.feed.newer(0))
    await create(store, "default", route("a"))
    async with asyncio.timeout(5):
        assert await waiting == 1
    assert mirror.touched_since(0) == {"reviews"}
    assert mirror.touched_since(1) == frozenset()
    with pytest.raises(Gap):
        mirror.touched_since(2)


async def test_the_log_holds_all_of_every_change(store: Store) -> None:
    book, changes = Rulebook(), list[Change]()
    for number in range(5):
        new = write(NOON + number, author=f"a{number}", comment="wörds", confirm_within=number + 1.0)
        change = rulebook.create(book, [route(str(number)), fault(f"f{number}")], new)
        await store.append("default", number, change)
        book = (await store.load("default")).book
        changes.insert(0, change)
    assert await store.log("default") == changes
    assert await store.log("default", above=3) == changes[:2]
    assert await store.log("default", below=3) == changes[3:]
    assert await store.log("default", above=1, below=4, limit=1) == changes[2:3]
    assert await store.log("default", above=5) == []
    assert await store.log("unknown") == []


async def test_what_waits_to_be_confirmed_and_what_ends_it(store: Store) -> None:
    book = await create(store, "default", route("a"), route("b"))
    steps: list[Callable[[Rulebook], Change | None]] = [
        lambda book: rulebook.replace(book, [route("a", version="v2")], write(NOON, confirm_within=30)),
        lambda book: rulebook.remove(book, Selection(ids=("b",)), write(NOON, confirm_within=20)),
        lambda book: declare.declare(book, [route("n")], (), write(NOON, confirm_within=10), prune=False),
        lambda book: undo.confirm(book, 4, write(NOON + 5)),
        lambda book: undo.revert(book, write(NOON + 25)),
    ]
    for make in steps:
        change = make(book)
        assert change is not None
        await store.append("default", book.revision, change)
        book = (await store.load("default")).book
    assert sorted(book.rules) == ["a", "b", "n"]
    assert [one.revision for one in book.unconfirmed] == [2]
    back = undo.rollback(book, await store.log("default", above=1), 1, write(NOON + 26))
    await store.append("default", book.revision, back)
    book = (await store.load("default")).book
    assert sorted(book.rules) == ["a", "b"]
    assert book.written["b"].revision == 6


async def test_a_whole_state_only_into_an_empty_tenant(store: Store) -> None:
    book = await create(store, "one", route("a"), fault("f"))
    book = await create(store, "one", route("b"), now=NOON + 1)
    log = await store.log("one")
    mirror = await store.load("two")
    waiting = asyncio.create_task(mirror.feed.newer(0))
    await asyncio.sleep(0)
    await store.restore("two", book, log)
    assert (await store.load("two")) is mirror
    assert mirror.book == book
    async with asyncio.timeout(5):
        assert await waiting == 2
    assert await store.log("two") == log
    with pytest.raises(Gap):
        mirror.touched_since(0)
    with pytest.raises(NotEmpty, match="revision 2"):
        await store.restore("two", book, log)
    after = await create(store, "two", route("c"), now=NOON + 2)
    assert after.revision == 3
    assert sorted(store.tenants()) == ["one", "two"]


async def test_an_unknown_tenant_has_no_sidecars(store: Store) -> None:
    assert store.sidecars("default") == {}
    await store.remember("default", {"a": caller("web", ["v1"]), "b": None})


async def test_a_hundred_writers_at_one_revision(store: Store) -> None:
    """Each revision goes to exactly one of those who wanted it."""
    winners = []
    for revision in range(5):
        book = (await store.load("default")).book
        tries = [
            store.append("default", revision, rulebook.create(book, [route(f"{revision}-{i}")], write()))
            for i in range(100)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert [type(result) for result in results].count(Superseded) == 99
        winners.append(results.index(None))
    book = (await store.load("default")).book
    assert set(book.rules) == {f"{revision}-{i}" for revision, i in enumerate(winners)}


async def test_epoch_and_secret(store: Store) -> None:
    assert len(store.epoch) >= 8
    assert "." not in store.epoch
    assert len(store.secret) == 32


async def test_what_a_restart_leaves(opener: Opener) -> None:
    """On disk everything; in memory nothing, and then the epoch says so."""
    first = await opener()
    await create(first, "default", route("a"), fault("f", "reviews"))
    book = await create(first, "default", route("b", "ratings"), now=NOON + 60)
    waits = rulebook.replace(book, [route("b", "ratings", "v2")], write(NOON + 61, confirm_within=9))
    await first.append("default", 2, waits)
    book = (await first.load("default")).book
    await first.remember("default", {"id": caller("web", ["v1"])})
    log = await first.log("default")
    await first.close()
    second = await opener()
    try:
        mirror = await second.load("default")
        if isinstance(first, MemoryStore):
            assert second.epoch != first.epoch
            assert second.secret != first.secret
            assert mirror.book == Rulebook()
            return
        assert (second.epoch, second.secret) == (first.epoch, first.secret)
        assert mirror.book == book
        assert [one.revision for one in mirror.book.unconfirmed] == [3]
        assert await second.log("default") == log
        assert second.sidecars("default") == {"id": caller("web", ["v1"])}
        assert mirror.feed.published == 3
        assert mirror.touched_since(1) == {"ratings"}
        assert mirror.touched_since(0) == {"ratings", "reviews"}
        after = await create(second, "default", route("c"), now=NOON - 60)
        assert [rule.id for rule in rulebook.select(after, Selection())] == ["a", "f", "b", "c"]
    finally:
        await second.close()
