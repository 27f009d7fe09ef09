"""Exports: what is packed is what is unpacked, and what cannot be an export is refused."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from amalgam8.controller import archive, rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.model.errors import A8Error, InvalidInput
from tests.controller.rules import NOON, fault, route, write


def line() -> tuple[Rulebook, list[Change]]:
    book, log = Rulebook(), list[Change]()
    for step in range(4):
        change = (
            rulebook.create(book, [route("a"), fault("f", ttl=0.0)], write(NOON, author="ann"))
            if not step
            else rulebook.replace(
                book, [route("a", version=f"v{step}")], write(NOON + step, confirm_within=9)
            )
        )
        book, log = apply(book, change), [change, *log]
    return book, log


def packed() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(archive.pack(*line())))
    return found


def test_there_and_back() -> None:
    book, log = line()
    assert archive.unpack(msgspec.json.encode(archive.pack(book, log))) == (book, tuple(log))


def test_a_history_may_be_shorter_than_the_life_of_the_rules() -> None:
    book, log = line()
    assert archive.unpack(msgspec.json.encode(archive.pack(book, log[:2])))[1] == tuple(log[:2])


def newer(document: dict[str, Any]) -> None:
    document["form"] = 2


def hole(document: dict[str, Any]) -> None:
    del document["history"][1]


def other_rules(document: dict[str, Any]) -> None:
    document["rules"][0]["priority"] = 99


def twice(document: dict[str, Any]) -> None:
    document["rules"] *= 2


def no_rule(document: dict[str, Any]) -> None:
    document["rules"][0]["route"] = {"backends": []}


def ageless(document: dict[str, Any]) -> None:
    document["rules"][0]["created"] = "yesterday"


def no_revision(document: dict[str, Any]) -> None:
    document["revision"] = 0


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (newer, "form 2, this controller knows 1: upgrade"),
        (hole, "without a hole"),
        (other_rules, "does not lead to the rules"),
        (twice, "an id of its own"),
        (no_rule, "backends"),
        (ageless, "is no export"),
        (no_revision, "without a hole"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_refused(act: Callable[[dict[str, Any]], None], words: str) -> None:
    document = packed()
    act(document)
    with pytest.raises(A8Error, match=words):
        archive.unpack(msgspec.json.encode(document))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"form":1}', b"\xff", b"[" * 100_000])
def test_what_is_no_export_at_all(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        archive.unpack(body)
