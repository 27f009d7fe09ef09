"""A cell that holds the latest value and wakes whoever waits for a newer one.

Between a writer and its readers nothing queues up: a slow reader sees the newest value and skips the rest.
Refuses to be used from several threads.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The newest value of something, with a version that grows by one each time it is set."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = asyncio.Event()

    @property
    def value(self) -> T:
        return self._value

    @property
    def version(self) -> int:
        return self._version

    def set(self, value: T) -> None:
        """Replace the value and wake all who wait."""
        self._value = value
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def newer(self, version: int) -> int:
        """Return the version as soon as it is above ``version``; cancel to stop waiting."""
        while self._version <= version:
            await self._changed.wait()
        return self._version

    async def follow(self) -> AsyncIterator[T]:
        """Yield the value now, and again after each change; values set in between are skipped."""
        version = self._version
        yield self._value
        while True:
            version = await self.newer(version)
            yield self._value
