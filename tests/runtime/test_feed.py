import asyncio
import itertools

import pytest

from amalgam8.runtime.feed import FIRST_GAP, LAST_GAP, Feed, Gap


class Clock:
    """The event loop's time, which stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    async def publish(self, feed: Feed[str]) -> None:
        """Let time pass until everything appended is published."""
        while feed.published < feed.revision:
            self.now += LAST_GAP
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: made.now)
    return made


async def test_the_first_change_after_quiet_is_published_at_once() -> None:
    feed: Feed[str] = Feed()
    feed.append(1, "a")
    assert feed.published == 1
    assert feed.since(0) == (1, ["a"])


async def test_what_follows_goes_together(clock: Clock) -> None:
    feed: Feed[str] = Feed()
    for revision in range(1, 6):
        feed.append(revision, str(revision))
    assert feed.published == 1
    assert feed.revision == 5
    assert feed.since(0) == (1, ["1"])
    clock.now += FIRST_GAP * 0.9
    await asyncio.sleep(0)
    assert feed.published == 1
    clock.now += FIRST_GAP * 0.2
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert feed.published == 5
    assert feed.since(1) == (5, ["2", "3", "4", "5"])


async def test_the_pace_slows_while_changes_keep_coming_and_recovers(clock: Clock) -> None:
    feed: Feed[str] = Feed()
    told: list[tuple[float, int]] = []
    for revision in range(1, 3000):
        feed.append(revision, "x")
        if not told or feed.published != told[-1][1]:
            told.append((clock.now, feed.published))
        clock.now += 0.001
        await asyncio.sleep(0)
    gaps = [round(later[0] - sooner[0], 3) for sooner, later in itertools.pairwise(told)]
    assert gaps[0] <= FIRST_GAP * 1.5
    assert all(sooner <= later + 0.003 for sooner, later in itertools.pairwise(gaps))
    assert LAST_GAP <= gaps[-1] <= LAST_GAP + 0.003
    await clock.publish(feed)
    clock.now += 2 * LAST_GAP
    feed.append(5000, "at once")
    assert feed.published == 5000
    feed.append(5001, "soon")
    clock.now += FIRST_GAP
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert feed.published == 5001


async def test_a_follower_waits_and_is_woken() -> None:
    feed: Feed[str] = Feed()
    waiting = asyncio.ensure_future(feed.newer(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.append(1, "a")
    assert await asyncio.wait_for(waiting, 5) == 1


async def test_many_followers_are_woken_by_one_change() -> None:
    feed: Feed[str] = Feed()
    waiting = [asyncio.ensure_future(feed.newer(0)) for _ in range(500)]
    await asyncio.sleep(0)
    feed.append(1, "a")
    assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [1] * 500


async def test_a_follower_ahead_of_what_is_published_is_not_woken_for_what_it_has(clock: Clock) -> None:
    feed: Feed[str] = Feed()
    feed.append(1, "a")
    feed.append(2, "b")  # in a snapshot already, not published yet
    assert feed.since(2) == (2, [])
    waiting = asyncio.ensure_future(feed.newer(2))
    await clock.publish(feed)
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.append(3, "c")
    await clock.publish(feed)
    assert await waiting == 3
    assert feed.since(2) == (3, ["c"])


async def test_a_revision_of_the_past_or_the_future_is_a_gap() -> None:
    feed: Feed[str] = Feed(revision=10)
    assert feed.since(10) == (10, [])
    for revision in (9, 11):
        with pytest.raises(Gap):
            feed.since(revision)


async def test_the_log_is_bounded_and_old_followers_fall_off(clock: Clock) -> None:
    feed: Feed[str] = Feed(length=3)
    for revision in range(1, 6):
        feed.append(revision, str(revision))
    await clock.publish(feed)
    with pytest.raises(Gap):
        feed.since(1)
    assert feed.since(2) == (5, ["3", "4", "5"])
    assert len(feed._log) == 3


async def test_changes_of_one_revision_are_never_cut_in_two(clock: Clock) -> None:
    feed: Feed[str] = Feed(length=3)
    for revision, change in ((1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")):
        feed.append(revision, change)
    await clock.publish(feed)
    with pytest.raises(Gap):
        feed.since(1)  # one of the three of revision 2 has left the log
    assert feed.since(2) == (3, ["e"])


async def test_a_reset_sends_everybody_for_a_snapshot(clock: Clock) -> None:
    feed: Feed[str] = Feed()
    feed.append(1, "a")
    for start in (7, 1):
        waiting = asyncio.ensure_future(feed.newer(feed.published))
        await asyncio.sleep(0)
        before = feed.revision
        feed.reset(start)
        if start != before:
            assert await asyncio.wait_for(waiting, 5) == start
            with pytest.raises(Gap):
                feed.since(before)
        waiting.cancel()
    feed.append(2, "b")
    await clock.publish(feed)
    assert feed.since(1) == (2, ["b"])


async def test_those_who_hear_are_told_each_change_and_a_reset() -> None:
    feed: Feed[str] = Feed()
    heard: list[str | None] = []
    feed.on_change(heard.append)
    feed.append(1, "a")
    feed.append(2, "b")
    feed.reset(9)
    assert heard == ["a", "b", None]


async def test_a_nudge_wakes_those_who_wait_though_nothing_changed() -> None:
    feed: Feed[str] = Feed(3)
    waiting = [asyncio.create_task(feed.newer(3)) for _ in range(2)]
    await asyncio.sleep(0)
    feed.nudge()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting) == [3, 3]
    later = asyncio.create_task(feed.newer(3))
    feed.append(4, "more")
    async with asyncio.timeout(5):
        assert await later == 4
