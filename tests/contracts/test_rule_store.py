"""What every store of rules keeps to: order, atomicity, tenants apart, wake-ups, memory or a new epoch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rulebook import Change, Rulebook, Selection
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.model.errors import Superseded
from amalgam8.model.rule import Rule
from amalgam8.runtime.feed import Gap
from tests.controller.rules import NOON, fault, route, write

Opener = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["memory", "sqlite"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    async def memory() -> Store:
        return MemoryStore()

    async def sqlite() -> Store:
        return await open_sqlite(tmp_path / "controller.db")

    return {"memory": memory, "sqlite": sqlite}[request.param]


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
    assert mirror.book == rulebook.apply(Rulebook(), change)
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
        book = rulebook.apply(book, change)
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


async def test_epoch_and_secret(store: Store) -> None:
    assert len(store.epoch) >= 8
    assert "." not in store.epoch
    assert len(store.secret) == 32


async def test_what_a_restart_leaves(opener: Opener) -> None:
    """On disk everything; in memory nothing, and then the epoch says so."""
    first = await opener()
    await create(first, "default", route("a"), fault("f", "reviews"))
    book = await create(first, "default", route("b", "ratings"), now=NOON + 60)
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
        assert mirror.feed.published == 2
        assert mirror.touched_since(1) == {"ratings"}
        assert mirror.touched_since(0) == {"ratings", "reviews"}
        after = await create(second, "default", route("c"), now=NOON - 60)
        assert [rule.id for rule in rulebook.select(after, Selection())] == ["a", "f", "b", "c"]
    finally:
        await second.close()
