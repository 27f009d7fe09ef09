"""Rows: what is written is what is read, and the one decision that they take."""

import sqlite3
from collections.abc import Iterator

import msgspec
import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Rulebook, apply
from amalgam8.controller.migrations import migrate
from amalgam8.controller.rows import (
    advance,
    insert_log,
    insert_rules,
    insert_unconfirmed,
    read_book,
    read_log,
    read_touched,
)
from amalgam8.model.errors import Superseded
from tests.controller.rules import NOON, fault, route, write


@pytest.fixture
def connection(tmp_path: object) -> Iterator[sqlite3.Connection]:
    found = sqlite3.connect(":memory:", isolation_level=None)
    migrate(found, 0)
    yield found
    found.close()


def test_what_is_written_is_read(connection: sqlite3.Connection) -> None:
    new = write(author="ann", comment='so"so', confirm_within=5)
    change = rulebook.create(Rulebook(), [route("a"), fault("f", ttl=0.0)], new)
    change = msgspec.structs.replace(change, about=(1, 2))
    book = apply(Rulebook(), change)
    advance(connection, "t", 0, change)
    insert_log(connection, "t", [change])
    insert_rules(connection, "t", change.after, book)
    insert_unconfirmed(connection, "t", book)
    assert read_book(connection, "t") == book
    assert read_log(connection, "t", 0, None, 9) == [change]
    assert read_touched(connection, "t") == [(1, frozenset({"reviews", "ratings"}))]


@pytest.mark.parametrize(
    ("above", "below", "limit", "found"),
    [
        (0, None, 9, [4, 3, 2, 1]),
        (2, None, 9, [4, 3]),
        (0, 3, 9, [2, 1]),
        (0, None, 2, [4, 3]),
        (4, None, 9, []),
    ],
)
def test_a_piece_of_the_log(
    connection: sqlite3.Connection, above: int, below: int | None, limit: int, found: list[int]
) -> None:
    book = Rulebook()
    for number in range(4):
        change = rulebook.create(book, [route(str(number))], write(NOON + number))
        book = apply(book, change)
        insert_log(connection, "t", [change])
    assert [one.revision for one in read_log(connection, "t", above, below, limit)] == found
    assert read_log(connection, "other", 0, None, 9) == []


def test_a_change_for_another_revision_is_superseded(connection: sqlite3.Connection) -> None:
    change = rulebook.create(Rulebook(), [route("a")], write())
    advance(connection, "t", 0, change)
    for expected in (0, 1):
        with pytest.raises(Superseded):
            advance(connection, "t", expected, change)
