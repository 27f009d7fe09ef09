"""Registries that share a real Valkey, for tests."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from amalgam8.clients.redis_link import Link
from amalgam8.registry.redis import RedisStore
from amalgam8.registry.redis_scripts import SCRIPTS
from amalgam8.registry.store import Happened
from tests.conftest import eventually
from tests.registry.kit import JUST_NOW
from tests.valkey import PASSWORD, Valkey, valkey


class RedisKit:
    """Makes stores on one server, in virtual time unless ``real``; each stands for a registry."""

    def __init__(self, server: Valkey, *, real: bool = False) -> None:
        self.server = server
        self.now = JUST_NOW
        self.happened: list[Happened] = []
        self.tasks: dict[RedisStore, asyncio.Task[None]] = {}
        self._links: list[Link] = []
        self._clock: Callable[[], float] | None = None if real else lambda: self.now

    def make(
        self,
        capacity: int = -1,
        *,
        happened: list[Happened] | None = None,
        pause: float | None = None,
        freeze_limit: float = 0.0,
        length: int = 4096,
    ) -> RedisStore:
        link = Link(self.server.address, PASSWORD, scripts=SCRIPTS)
        store = RedisStore(
            link,
            capacity=capacity,
            observe=(self.happened if happened is None else happened).append,
            now=self._clock,
            pause=pause,
            freeze_limit=freeze_limit,
            length=length,
        )
        self._links.append(link)
        self.follow(store)
        return store

    def follow(self, store: RedisStore) -> None:
        self.tasks[store] = asyncio.create_task(store.follow())

    async def stop(self, store: RedisStore) -> None:
        """It follows no more, as if it were very slow."""
        task = self.tasks.pop(store)
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

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def close(self) -> None:
        for store in list(self.tasks):
            await self.stop(store)
        for link in self._links:
            await link.close()


@contextlib.asynccontextmanager
async def redis_kit(*, durable: bool = False, real: bool = False) -> AsyncIterator[RedisKit]:
    with valkey(durable=durable) as server:
        kit = RedisKit(server, real=real)
        try:
            yield kit
        finally:
            await kit.close()
