"""Rules, changes and words of sidecars as the shared store has them, in and out. Pure.

Everything is JSON, so that a person with the store's own client can read it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from amalgam8.controller.book import Change, Rulebook, Unconfirmed, Written, book_of
from amalgam8.controller.store import Said, Words
from amalgam8.model.caller import Caller, caller
from amalgam8.model.report import SidecarReport
from amalgam8.model.rule import Rule
from amalgam8.model.slices import SliceReport


class Kept(msgspec.Struct, frozen=True):
    """A rule, and when it was last written."""

    rule: Rule
    written: Written


class Who(msgspec.Struct, frozen=True):
    """Who a sidecar is."""

    service: str
    tags: tuple[str, ...] = ()


class Word(msgspec.Struct, frozen=True):
    """What a sidecar reported, and when (Unix seconds)."""

    at: float
    report: SidecarReport


class Want(msgspec.Struct, frozen=True):
    """What a sidecar wants of budgets that the fleet shares, and when (Unix seconds)."""

    at: float
    who: Who
    report: SliceReport


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One piece of news of a sidecar; a ``who`` without anything: it is forgotten."""

    kind: Literal["who", "word", "want"]
    id: str
    value: msgspec.Raw


class Entry(NamedTuple):
    """One entry of the log; ``restored``: it came with a whole state, not as a step to the next one.

    Such an entry, and one without a change, says that all there is has to be loaded.
    """

    revision: int
    change: Change | None
    stamp: str
    restored: bool = False


class Snapshot(NamedTuple):
    """All of a tenant. ``entries``: the latest of the log, oldest first; ``said_to``: the end of the news."""

    book: Rulebook
    stamp: str
    entries: tuple[Entry, ...]
    said: tuple[Said, ...]
    said_to: str


_kept = msgspec.json.Decoder(Kept)
_change = msgspec.json.Decoder(Change)
_unconfirmed = msgspec.json.Decoder(tuple[Unconfirmed, ...])
_told = msgspec.json.Decoder(list[Told])
_who = msgspec.json.Decoder(Who)
_word = msgspec.json.Decoder(Word)
_want = msgspec.json.Decoder(Want)
encode = msgspec.json.encode

NOTHING = b"null"


def pairs(rules: Iterable[Rule], book: Rulebook) -> Iterator[str | bytes]:
    """Id and JSON of each rule, as scripts take them."""
    for rule in rules:
        yield rule.id
        yield encode(Kept(rule, book.written[rule.id]))


def history(changes: Iterable[Change]) -> Iterator[str | bytes]:
    """Revision and JSON of each change, as the script RESTORE takes them."""
    for change in changes:
        yield str(change.revision)
        yield encode(change)


def entry_of(place: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """An entry as the stream has it.

    Raises:
        ValueError: nobody of ours wrote it.
    """
    try:
        text = fields[b"change"]
        change = _change.decode(text) if text else None
        return Entry(int(place.split(b"-")[0]), change, fields[b"stamp"].decode(), b"restored" in fields)
    except KeyError as error:
        raise ValueError(f"the log's entry {place.decode()} has no {error}") from None


def entries_of(reply: Sequence[Any]) -> tuple[Entry, ...]:
    """Entries as scripts return them, in their order."""
    return tuple(
        entry_of(place, dict(zip(fields[::2], fields[1::2], strict=True))) for place, fields in reply
    )


def snapshot_of(reply: Sequence[Any]) -> Snapshot:
    """What the script LOAD returns after its status.

    Raises:
        ValueError: nobody of ours wrote it.
    """
    revision, newest, unconfirmed, stamp, rules, entries, roster, words, said_to = reply
    kept = [_kept.decode(text) for text in rules]
    book = book_of(
        [one.rule for one in kept],
        int(revision),
        int(newest),
        {one.rule.id: one.written for one in kept},
        _unconfirmed.decode(unconfirmed) if unconfirmed else (),
    )
    said = [_said("who", identity.decode(), text) for identity, text in _by_two(roster)]
    said += [_said("word", identity.decode(), text) for identity, text in _by_two(words)]
    return Snapshot(book, stamp.decode(), entries_of(reversed(entries)), tuple(said), said_to.decode())


def told_of(roster: Mapping[str, Caller | None], words: Words, at: float) -> list[Told]:
    """News, as ``arguments`` takes them; the sidecars' keys are left out."""
    found = [
        Told("who", identity, msgspec.Raw(NOTHING if who is None else encode(Who(who.service, who.tags))))
        for identity, who in roster.items()
    ]
    for identity, report in words.reports.items():
        word = Word(at, msgspec.structs.replace(report, key=""))
        found.append(Told("word", identity, msgspec.Raw(encode(word))))
    for identity, (who, wants) in words.wants.items():
        want = Want(at, Who(who.service, who.tags), msgspec.structs.replace(wants, key=""))
        found.append(Told("want", identity, msgspec.Raw(encode(want))))
    return found


def arguments(told: Sequence[Told]) -> Iterator[str | bytes]:
    """What the script TELL takes: all of it, then kind, id and JSON of each."""
    yield encode(told)
    for one in told:
        value = bytes(one.value)
        yield from (one.kind, one.id, b"" if value == NOTHING else value)


def said_of(text: bytes) -> list[Said]:
    """News as the stream has them.

    Raises:
        ValueError: nobody of ours wrote them.
    """
    return [_said(one.kind, one.id, bytes(one.value)) for one in _told.decode(text)]


def _said(kind: Literal["who", "word", "want"], identity: str, text: bytes) -> Said:
    if kind == "want":
        want = _want.decode(text)
        return Said(identity, caller(want.who.service, want.who.tags), None, want.at, want.report)
    if kind == "word":
        word = _word.decode(text)
        return Said(identity, caller(word.report.service, word.report.tags), word.report, word.at)
    if text == NOTHING:
        return Said(identity, None)
    who = _who.decode(text)
    return Said(identity, caller(who.service, who.tags))


def _by_two(reply: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    return zip(reply[::2], reply[1::2], strict=True)
