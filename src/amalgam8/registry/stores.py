"""Opens the store that the settings ask for. Redis's library is loaded only where that is asked for."""

import contextlib
from collections.abc import AsyncIterator

from amalgam8.clients.redis_address import read_address
from amalgam8.model.errors import InvalidSetting
from amalgam8.registry.memory import MemoryStore
from amalgam8.registry.preservation import LIMIT
from amalgam8.registry.redis_scripts import SCRIPTS
from amalgam8.registry.store import Observer, Store
from amalgam8.runtime.beside import followed


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
        from amalgam8.clients.redis_link import Link
        from amalgam8.registry.redis import RedisStore
    except ModuleNotFoundError as error:
        raise InvalidSetting(
            f"store: redis needs the Python package {error.name}; install amalgam8[redis]"
        ) from None
    link = Link(read_address(address), password, scripts=SCRIPTS)
    store = RedisStore(link, capacity=capacity, freeze_limit=freeze_limit, observe=observe)
    async with followed(store, link.close):
        yield store
