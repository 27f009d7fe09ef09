"""Shared by all tests: waiting for conditions, and free ports."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(check: Callable[[], Awaitable[T | None]], *, within: float = 10.0, what: str = "") -> T:
    """Call ``check`` until it returns something true; fail after ``within`` seconds with its last answer."""
    limit = time.monotonic() + within
    while True:
        found = await check()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"not within {within:g} s: {what or check}; last: {found!r}")
        await asyncio.sleep(0.01)


def free_port() -> int:
    """A port that was free a moment ago, from the system."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
