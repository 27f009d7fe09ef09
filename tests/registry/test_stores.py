import sys

import pytest

from amalgam8.model.errors import InvalidSetting, StoreUnavailable
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.store import Happened
from amalgam8.registry.stores import opened
from tests.contracts.registry_store import instance
from tests.registry.redis_kit import PASSWORD, valkey


def ignore(_happened: Happened) -> None:
    pass


async def test_in_memory_nothing_else_is_needed() -> None:
    async with opened("inmem", "", "", capacity=1, observe=ignore) as store:
        assert isinstance(store, MemoryStore)


async def test_the_shared_store_is_reached_before_anybody_is_served() -> None:
    with valkey() as server:
        address = f"unix://{server.socket}"
        async with opened("redis", address, PASSWORD, capacity=-1, observe=ignore) as store:
            assert len(store.view("t")) == 0
            await store.register("t", instance())
        async with opened("redis", address, PASSWORD, capacity=-1, observe=ignore) as store:
            assert len(store.view("t")) == 1


async def test_a_wrong_password_is_no_reason_not_to_serve() -> None:
    with valkey() as server:
        address = f"unix://{server.socket}"
        async with opened("redis", address, "wrong", capacity=-1, observe=ignore) as store:
            with pytest.raises(StoreUnavailable):
                await store.register("t", instance())


async def test_the_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("amalgam8.registry.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidSetting, match=r"amalgam8\[redis\]"):
        async with opened("redis", "store", "", capacity=-1, observe=ignore):
            pass
