"""Refresh: when it asks, what it tells, and how long it waits. In virtual time."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from amalgam8.catalogs.catalog import Found, Partial
from amalgam8.catalogs.refresh import FIRST_PAUSE, REASON_LIMIT, Backoff, Refresh, reason_of
from amalgam8.model.errors import Unreachable
from amalgam8.model.instance import Instance
from tests.catalogs.virtual import in_virtual_time
from tests.wire import instance

ONE: Found = {"default": [instance("reviews", 9001)]}


class Told:
    """Writes down what it is told, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str, Any]] = []

    def found(self, instances: Found, problem: str = "") -> None:
        self.calls.append((self._now(), "found", instances))
        if problem:
            self.calls.append((self._now(), "problem", problem))

    def failed(self, reason: str) -> None:
        self.calls.append((self._now(), "failed", reason))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def names(self) -> list[str]:
        return [name for _, name, _ in self.calls]

    def pauses(self) -> list[float]:
        times = [when for when, name, _ in self.calls if name != "problem"]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


def follow(fetch: Callable[[], Awaitable[Found]], seconds: float, **given: Any) -> Told:
    async def main() -> Told:
        told = Told()
        try:
            async with asyncio.timeout(seconds):
                await Refresh("tried", fetch, **given).run(told)
        except TimeoutError:
            pass
        return told

    return in_virtual_time(main())


async def works() -> Found:
    return ONE


def failing(error: Exception) -> Callable[[], Awaitable[Found]]:
    async def fetch() -> Found:
        raise error

    return fetch


def test_it_asks_at_once_and_then_every_period() -> None:
    told = follow(works, 1000, period=30)
    assert told.calls[0] == (0.0, "found", ONE)
    assert set(told.names()) == {"found"}
    assert all(27 <= pause <= 30.001 for pause in told.pauses())
    assert 33 <= len(told.calls) <= 38


def test_pauses_after_failures_grow_to_the_period() -> None:
    told = follow(failing(Unreachable("it is away")), 1000, period=30)
    assert {(name, what) for _, name, what in told.calls} == {("failed", "it is away")}
    pauses = told.pauses()
    assert FIRST_PAUSE / 2 <= pauses[0] <= FIRST_PAUSE
    for count, pause in enumerate(pauses):
        longest = min(FIRST_PAUSE * 2**count, 30)
        assert longest / 2 <= pause <= longest + 0.001


def test_a_success_begins_the_pauses_anew() -> None:
    asked = 0

    async def fetch() -> Found:
        nonlocal asked
        asked += 1
        if asked == 8:
            return ONE
        raise Unreachable("it is away")

    told = follow(fetch, 200, period=64)
    assert told.names()[7] == "found"
    assert told.pauses()[6] > 16
    assert told.pauses()[8] <= FIRST_PAUSE


def test_a_fetch_that_hangs_is_given_up() -> None:
    async def hang() -> Found:
        await asyncio.Event().wait()
        return {}

    told = follow(hang, 100, period=10, limit=7)
    assert told.calls[0] == (7.0, "failed", "no answer within 7 s")


def test_another_timeout_is_told_as_what_it_is() -> None:
    told = follow(failing(TimeoutError("the name server is slow")), 1, period=10)
    assert told.calls[0][2] == "the name server is slow"


def test_what_is_known_all_the_same_is_told() -> None:
    told = follow(failing(Partial("shop.yaml is broken", ONE)), 100, period=10)
    assert told.calls[:2] == [(0.0, "found", ONE), (0.0, "problem", "shop.yaml is broken")]
    assert told.pauses()[0] >= 9, "a part that cannot be read does not make it ask faster"


def test_any_error_of_a_fetch_is_a_failure() -> None:
    told = follow(failing(KeyError("instances")), 0.1, period=10)
    assert told.names() == ["failed"]


def test_it_closes_what_it_was_given_to_close() -> None:
    closed = 0

    async def close() -> None:
        nonlocal closed
        closed += 1

    follow(works, 100, period=30, close=close)
    assert closed == 1


def test_backoff_starts_anew_and_never_passes_its_end() -> None:
    backoff = Backoff(1.0, 5.0)
    assert all(backoff.next() <= 5.0 for _ in range(20))
    assert backoff.next() >= 2.5
    backoff.reset()
    assert backoff.next() <= 1.0


@pytest.mark.parametrize(
    ("error", "said"),
    [(ValueError("a\n  b"), "a b"), (ValueError(), "ValueError"), (ValueError("x" * 9999), None)],
)
def test_a_reason_is_one_short_line(error: Exception, said: str | None) -> None:
    assert len(reason_of(error)) <= REASON_LIMIT
    if said is not None:
        assert reason_of(error) == said


def test_what_is_told_is_what_was_fetched() -> None:
    assert isinstance(next(iter(ONE["default"])), Instance)
