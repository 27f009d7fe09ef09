"""Opens the store that the settings ask for. Redis's library is loaded only where that is asked for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from amalgam8.model.errors import InvalidSetting
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.preservation import LIMIT
from amalgam8.registry.redis_address import read_address
from amalgam8.registry.store import Observer, Store

REACHED_WITHIN = 5.0
"""Seconds to wait for a store before serving without it."""


@contextlib.asynccontextmanager
async def opened(
    kind: str, address: str, password: str, *, capacity: int, freeze_limit: float = LIMIT, observe: Observer
) -> AsyncIterator[Store]:
    """The store ``kind`` (``inmem`` or ``redis``) inside the block.

    Raises:
        InvalidSetting: the library that it needs is not installed.
    """
    if kind == "inmem":
        yield MemoryStore(capacity=capacity, freeze_limit=freeze_limit, observe=observe)
        return
    try:
        from amalgam8.registry.redis import RedisStore
        from amalgam8.registry.redis_link import Link
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"store: redis needs the Python package {error.name}; install amalgam8[redis]"
        ) from None
    link = Link(read_address(address), password)
    try:
        async with asyncio.TaskGroup() as tasks:
            store = RedisStore(link, capacity=capacity, freeze_limit=freeze_limit, observe=observe)
            following = tasks.create_task(store.follow())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REACHED_WITHIN):
                    await store.tried()
            try:
                yield store
            finally:
                following.cancel()
    finally:
        await link.close()
