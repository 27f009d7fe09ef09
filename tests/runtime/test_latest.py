"""The cell: newest value, woken readers, nothing queued."""

import asyncio

import pytest

from amalgam8.runtime.latest import Latest


async def test_a_set_value_wakes_who_waits() -> None:
    cell = Latest("a")
    waiting = [asyncio.create_task(cell.newer(cell.version)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    cell.set("b")
    async with asyncio.timeout(10):
        assert [await task for task in waiting] == [1, 1]
    assert cell.value == "b"


async def test_what_is_newer_already_is_not_waited_for() -> None:
    cell = Latest(0)
    cell.set(1)
    async with asyncio.timeout(10):
        assert await cell.newer(0) == 1


async def test_an_equal_value_counts_as_set() -> None:
    cell = Latest(0)
    cell.set(0)
    assert cell.version == 1


async def test_a_slow_reader_sees_the_newest_only() -> None:
    cell = Latest(0)
    seen: list[int] = []

    async def read() -> None:
        async for value in cell.follow():
            seen.append(value)
            if value == 9:
                return

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    for value in range(1, 10):
        cell.set(value)
    async with asyncio.timeout(10):
        await task
    assert seen == [0, 9]


async def test_a_value_that_is_set_while_it_is_read_is_not_missed() -> None:
    cell = Latest(0)
    follow = cell.follow()
    assert await anext(follow) == 0
    cell.set(1)
    async with asyncio.timeout(10):
        assert await anext(follow) == 1


async def test_waiting_can_be_given_up() -> None:
    cell = Latest(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await cell.newer(0)
    cell.set(1)
    assert await cell.newer(0) == 1
