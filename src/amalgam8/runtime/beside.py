"""Runs what keeps a store up to date beside those who use the store, and lets them begin once it was tried.

A store that is away is no reason not to serve: after REACHED_WITHIN seconds they begin without it. Refuses
to know what a store is.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

REACHED_WITHIN = 5.0
"""Seconds to wait for a store before beginning without it."""


class Followed(Protocol):
    """A store that is kept up to date from outside of this process."""

    async def follow(self) -> None:
        """Keep it up to date until cancelled."""

    async def tried(self) -> None:
        """Return once it was reached, or could not be."""


@contextlib.asynccontextmanager
async def followed(store: Followed, close: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """``store.follow`` runs for as long as the block; ``close`` is awaited at the end."""
    try:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(store.follow())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REACHED_WITHIN):
                    await store.tried()
            try:
                yield
            finally:
                following.cancel()
    finally:
        await close()
