"""Following a log of changes: in order, each once, never past a hole."""

import asyncio

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.redis_followed import Followed
from amalgam8.controller.redis_rows import Entry, Snapshot
from amalgam8.controller.store import Said
from amalgam8.model.caller import caller
from amalgam8.model.report import SidecarReport
from amalgam8.runtime.feed import Gap
from tests.controller.rules import route, write


def changes(count: int) -> list[Change]:
    """Each creates one rule of a destination of its own."""
    book, found = Rulebook(), list[Change]()
    for number in range(count):
        found.append(rulebook.create(book, [route(f"r{number}", f"d{number}")], write()))
        book = apply(book, found[-1])
    return found


def book_after(made: list[Change]) -> Rulebook:
    book = Rulebook()
    for change in made:
        book = apply(book, change)
    return book


def entries(made: list[Change]) -> tuple[Entry, ...]:
    return tuple(Entry(change.revision, change, f"s{change.revision}") for change in made)


def followed(made: list[Change], known: list[Change]) -> Followed:
    """At the end of ``made``, with ``known`` of its log."""
    stamp = f"s{made[-1].revision}" if made else ""
    return Followed("t", Snapshot(book_after(made), stamp, entries(known), (), "0-0"))


async def test_entries_in_order_each_once() -> None:
    made = changes(4)
    one = followed(made[:1], made[:1])
    second, third, fourth = entries(made[1:])
    assert not one.take(third), "the second is missing"
    assert one.take(second)
    assert one.take(second), "it is in already"
    assert one.take(third)
    assert (one.seen, one.stamp) == (3, "s3")
    assert not one.take(Entry(4, None, "s4")), "all there is has to be loaded"
    assert not one.take(fourth._replace(restored=True)), "and here too"
    assert one.take(fourth)
    assert one.mirror.book == book_after(made)
    assert [change.revision for change in one.recent()] == [1, 2, 3, 4]


async def test_a_snapshot_never_takes_back_what_is_in() -> None:
    made = changes(3)
    one = followed(made, made)
    one.load(Snapshot(book_after(made[:2]), "s2", entries(made[:2]), (), "7-0"), anew=False)
    assert (one.seen, one.said_to) == (3, "7-0")
    one.load(Snapshot(book_after(made[:2]), "x2", entries(made[:2]), (), "8-0"), anew=True)
    assert (one.seen, one.stamp) == (2, "x2")
    assert [change.revision for change in one.recent()] == [1, 2]


@pytest.mark.parametrize(("known", "reaches"), [([0, 1, 2], 0), ([0, 2], 2), ([1, 2], 1), ([0, 1], 3)])
async def test_what_was_touched_is_known_from_the_last_hole_on(known: list[int], reaches: int) -> None:
    made = changes(3)
    mirror = followed(made, [made[number] for number in known]).mirror
    assert mirror.touched_since(reaches) == {f"d{number}" for number in range(reaches, 3)}
    if reaches:
        with pytest.raises(Gap):
            mirror.touched_since(reaches - 1)


async def test_whoever_waits_for_a_revision_wakes_when_it_is_there() -> None:
    made = changes(2)
    one = followed([], [])
    waiting = asyncio.create_task(one.reaches(2))
    for entry in entries(made):
        await asyncio.sleep(0)
        assert not waiting.done()
        one.take(entry)
    async with asyncio.timeout(5):
        await waiting


async def test_what_is_known_of_sidecars() -> None:
    one = followed([], [])
    one.keep(Said("s", caller("web")))
    word = Said("s", caller("web", ["v2"]), SidecarReport("", "web", ("v2",)), 7.0)
    one.keep(word)
    assert (one.roster, one.words) == ({"s": caller("web", ["v2"])}, {"s": word})
    one.keep(Said("s", None))
    assert not one.roster
    assert not one.words
