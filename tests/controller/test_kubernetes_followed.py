"""One tenant as a controller follows it."""

import asyncio

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook, apply
from amalgam8.controller.kubernetes_followed import Followed
from tests.controller.rules import route, write


async def test_the_kept_changes_are_the_newest() -> None:
    one = Followed(Rulebook(), (), kept=2)
    for number in range(3):
        one.take(rulebook.create(one.mirror.book, [route(str(number))], write()))
    assert [change.revision for change in one.log] == [2, 3]
    assert one.seen == 3


async def test_going_back_is_another_line_of_revisions_and_ends_streams() -> None:
    change = rulebook.create(Rulebook(), [route("a")], write())
    one = Followed(apply(Rulebook(), change), [change], kept=2)
    feed = one.mirror.feed
    waiting = asyncio.create_task(feed.newer(1))
    await asyncio.sleep(0)
    one.replace(one.mirror.book, [change])
    assert one.mirror.feed is feed
    one.replace(Rulebook(), [])
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(5):
            await waiting
    assert (one.seen, list(one.log)) == (0, [])


async def test_whoever_waits_for_a_revision_wakes_when_it_is_there() -> None:
    one = Followed(Rulebook(), (), kept=2)
    waiting = asyncio.create_task(one.reaches(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    one.take(rulebook.create(Rulebook(), [route("a")], write()))
    async with asyncio.timeout(5):
        await waiting
