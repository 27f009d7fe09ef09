"""What the shared store holds, there and back."""

import pytest

from amalgam8.controller import redis_rows as rows
from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook, apply
from amalgam8.controller.store import Said, Words
from amalgam8.model.caller import caller
from amalgam8.model.report import PlanStamp, SidecarReport
from amalgam8.model.slices import SliceReport, Wanted
from tests.controller.rules import NOON, fault, route, write


def reply(*, changes: int = 2) -> tuple[Rulebook, list[object]]:
    """A book, and what the script LOAD says of it."""
    book, entries = Rulebook(), list[object]()
    for number in range(changes):
        new = [route(f"r{number}"), fault(f"f{number}", ttl=9.0)]
        change = rulebook.create(book, new, write(NOON + number, confirm_within=number + 1.0))
        book = apply(book, change)
        fields = [b"change", rows.encode(change), b"stamp", b"s%d" % number]
        entries.insert(0, [b"%d-0" % change.revision, fields])
    flat = list(rows.pairs(book.rules.values(), book))
    last = [str(book.revision).encode(), str(book.newest).encode(), rows.encode(book.unconfirmed), b"s1"]
    return book, [*last, flat[1::2], entries, [], [], b"0-0"]


def test_a_book_comes_back_whole() -> None:
    book, found = reply()
    snapshot = rows.snapshot_of(found)
    assert snapshot.book == book
    assert [entry.revision for entry in snapshot.entries] == [1, 2]
    assert [entry.stamp for entry in snapshot.entries] == ["s0", "s1"]
    assert rows.snapshot_of([b"0", b"0", b"", b"", [], [], [], [], b"0-0"]).book == Rulebook()


def test_news_come_back_without_keys() -> None:
    report = SidecarReport("confidential", "web", ("b", "a"), "envoy", PlanStamp(3, "h"))
    told = rows.told_of({"s": caller("web"), "gone": None}, Words({"s": report}), 7.5)
    text, *own = rows.arguments(told)
    assert isinstance(text, bytes)
    assert b"confidential" not in text
    assert own[::3] == ["who", "who", "word"]
    assert own[5] == b"", "nothing: forgotten"
    word = SidecarReport("", "web", ("b", "a"), "envoy", PlanStamp(3, "h"))
    assert rows.said_of(text) == [
        Said("s", caller("web")),
        Said("gone", None),
        Said("s", caller("web", ("a", "b")), word, 7.5),
    ]


def test_what_is_there_of_sidecars_is_news_to_whoever_comes() -> None:
    told = rows.told_of({"s": caller("web")}, Words({"s": SidecarReport("", "web")}), 7.5)
    _, *own = rows.arguments(told)
    _, found = reply()
    found[6] = [b"s", own[2]]
    found[7] = [b"s", own[5]]
    assert [said.at for said in rows.snapshot_of(found).said] == [0.0, 7.5]


@pytest.mark.parametrize("fields", [{b"hello": b"world"}, {b"change": b"{}", b"stamp": b""}])
def test_what_nobody_of_ours_wrote_is_refused(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(ValueError, match=r"has no b'change'|missing required field"):
        rows.entry_of(b"1-0", fields)


def test_an_entry_without_a_change_says_that_all_has_to_be_loaded() -> None:
    assert rows.entry_of(b"7-0", {b"change": b"", b"stamp": b"s"}) == rows.Entry(7, None, "s")


def test_what_a_sidecar_wants_comes_back_without_its_key() -> None:
    wants = SliceReport("confidential", "e", (Wanted("l/0", 2.5, 7, 0.1),))
    told = rows.told_of({}, Words(wants={"s": (caller("web"), wants)}), 7.5)
    text, *_ = rows.arguments(told)
    assert isinstance(text, bytes)
    assert b"confidential" not in text
    bare = SliceReport("", "e", wants.budgets)
    assert rows.said_of(text) == [Said("s", caller("web"), None, 7.5, bare)]
