"""What keeps a store up to date runs beside those who use it."""

import asyncio

import pytest

from amalgam8.runtime import beside
from amalgam8.runtime.beside import followed


class Store:
    """Says what happened to it."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.reached = asyncio.Event()
        self.broken = asyncio.Event()

    async def follow(self) -> None:
        self.happened.append("followed")
        try:
            await self.broken.wait()
            raise ValueError("broken")
        finally:
            self.happened.append("left")

    async def tried(self) -> None:
        await self.reached.wait()

    async def close(self) -> None:
        self.happened.append("closed")


async def test_the_block_begins_once_the_store_was_tried_and_ends_it() -> None:
    store = Store()
    asyncio.get_running_loop().call_soon(store.reached.set)
    async with followed(store, store.close):
        assert store.reached.is_set()
        assert store.happened == ["followed"]
    assert store.happened == ["followed", "left", "closed"]


async def test_a_store_that_is_never_reached_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "REACHED_WITHIN", 0.01)
    store = Store()
    async with asyncio.timeout(10), followed(store, store.close):
        assert not store.reached.is_set()


async def test_a_mistake_of_the_store_ends_the_block() -> None:
    store = Store()
    store.reached.set()

    async def use() -> None:
        async with asyncio.timeout(10), followed(store, store.close):
            store.broken.set()
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.group_contains(ValueError, match="broken")
    assert store.happened[-1] == "closed"
