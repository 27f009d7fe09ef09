"""Controllers' stores that share a real Valkey, for tests."""

import asyncio
import contextlib
from types import TracebackType

from amalgam8.clients.redis_link import Link
from amalgam8.controller.redis import RedisStore
from amalgam8.controller.redis_scripts import SCRIPTS
from tests.conftest import eventually
from tests.valkey import PASSWORD, Valkey


class RedisKit:
    """Makes stores on one server; each stands for a controller. They end with the block."""

    def __init__(self, server: Valkey) -> None:
        self.server = server
        self._tasks: dict[RedisStore, asyncio.Task[None]] = {}
        self._links: list[Link] = []

    async def __aenter__(self) -> "RedisKit":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for store in list(self._tasks):
            await self.stop(store)
        for link in self._links:
            await link.close()

    def make(self, kept: int = 10_000) -> RedisStore:
        """A store that follows the server."""
        link = Link(self.server.address, PASSWORD, scripts=SCRIPTS)
        store = RedisStore(link, kept=kept)
        self._links.append(link)
        self.follow(store)
        return store

    def follow(self, store: RedisStore) -> None:
        self._tasks[store] = asyncio.create_task(store.follow())

    async def stop(self, store: RedisStore) -> None:
        """It follows no more, as if it were very slow."""
        task = self._tasks.pop(store)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def up(self, *stores: RedisStore) -> None:
        async def all_up() -> bool:
            return all(store.epoch and store.up for store in stores)

        await eventually(all_up, what="stores that are up")

    async def down(self, *stores: RedisStore) -> None:
        async def all_down() -> bool:
            return not any(store.up for store in stores)

        await eventually(all_down, what="stores that know that the server is gone")
