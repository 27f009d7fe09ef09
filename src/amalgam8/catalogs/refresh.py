"""Turns any function that fetches everything into a catalogue that asks again and again.

After a success it waits ``period``, after a failure less: from a second on, growing to the period, with
jitter, so that many registries do not ask at once. What was told stays while the source is away.
Refuses to look into what it fetches.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from amalgam8.catalogs.catalog import Found, Partial, Teller

PERIOD = 30.0
LIMIT = 60.0
FIRST_PAUSE = 1.0
REASON_LIMIT = 500

Fetch = Callable[[], Awaitable[Found]]


class Backoff:
    """Pauses that double from ``first`` to ``longest`` seconds, each shortened at random by up to half."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._pause = first

    def next(self) -> float:
        """How long to wait after one more failure."""
        pause = min(self._pause, self._longest)
        self._pause = min(pause * 2, self._longest)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads requests, keeps no secret

    def reset(self) -> None:
        """Something worked."""
        self._pause = self._first


class Refresh:
    """A catalogue that calls ``fetch`` every ``period`` seconds, and gives each call ``limit`` seconds.

    ``fetch`` returns everything there is. Whatever it raises is a failure; Partial says what is known all
    the same. ``close`` is awaited once asking ends.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        *,
        period: float = PERIOD,
        limit: float = LIMIT,
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self._fetch = fetch
        self._period = period
        self._limit = limit
        self._close = close

    async def run(self, teller: Teller) -> None:
        """Ask until cancelled."""
        backoff = Backoff(min(FIRST_PAUSE, self._period), self._period)
        try:
            while True:
                if await self._ask(teller):
                    backoff.reset()
                    pause = self._period * random.uniform(0.9, 1.0)  # noqa: S311 - as above
                else:
                    pause = backoff.next()
                await asyncio.sleep(pause)
        finally:
            if self._close is not None:
                await self._close()

    async def _ask(self, teller: Teller) -> bool:
        try:
            async with asyncio.timeout(self._limit) as limit:
                found = await self._fetch()
        except Partial as partly:
            teller.found(partly.found, reason_of(partly))
            return True
        except Exception as error:
            late = isinstance(error, TimeoutError) and limit.expired()
            teller.failed(f"no answer within {self._limit:g} s" if late else reason_of(error))
            return False
        teller.found(found)
        return True


def reason_of(error: BaseException) -> str:
    """An error as one sentence for the log, cut at REASON_LIMIT characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= REASON_LIMIT else text[: REASON_LIMIT - 1] + "…"
