"""The SQLite file: what is refused at start, how it is kept, and its log."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from amalgam8.controller import rulebook, sqlite
from amalgam8.controller.book import Rulebook
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.sqlite import SqliteStore, open_sqlite
from amalgam8.model.errors import InvalidSetting, StoreUnavailable, Superseded
from amalgam8.model.rule import Rule
from tests.controller.rules import NOON, fault, route, write


async def filled(path: Path, count: int = 50) -> None:
    store = await open_sqlite(path)
    await add(store, *[route(f"rule-{i}", description="x" * 500) for i in range(count)])
    await store.close()


async def add(store: SqliteStore, *rules: Rule) -> Rulebook:
    mirror = await store.load("default")
    await store.append("default", mirror.book.revision, rulebook.create(mirror.book, rules, write()))
    return mirror.book


async def test_only_the_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "deep" / "controller.db"
    store = await open_sqlite(path)
    await add(store, route("a"))
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    await store.close()
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_it_is_as_durable_as_sqlite_can_be(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "c.db")
    connection = store._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"these are no rules " * 400)


def zeroed_pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:20480] = bytes(12288)
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def of_another_program(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def change(statement: str) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return act


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (not_a_database, "is not a database of this program"),
        (zeroed_pages, "is damaged"),
        (cut, "is damaged"),
        (of_another_program, "is a database of another program"),
        (change("PRAGMA application_id = 7"), "is a database of another program"),
        (
            change("PRAGMA user_version = 99"),
            "newer version (schema 99; this one knows 3): upgrade this controller",
        ),
        (change("DELETE FROM identity"), "is damaged"),
        (change("UPDATE rules SET document = '{\"id\":7}' WHERE id = 'rule-3'"), "is damaged"),
        (change("DROP TABLE revisions"), "is damaged"),
        (folder, "cannot be used: Is a directory"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_a_file_that_cannot_be_used(act: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    await filled(path)
    act(path)
    with pytest.raises(InvalidSetting) as caught:
        await open_sqlite(path)
    text = str(caught.value)
    assert text.startswith(f"database_path: {path} ")
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize("place", ["/proc/nowhere/controller.db", "{file}/controller.db"])
async def test_a_folder_that_cannot_be_used(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = Path(place.format(file=tmp_path / "file"))
    with pytest.raises(InvalidSetting, match=r"^database_path: .* cannot be used: "):
        await open_sqlite(path)


async def test_a_second_controller_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOCK_PATIENCE", 0.05)
    store = await open_sqlite(tmp_path / "c.db")
    with pytest.raises(InvalidSetting, match="is in use by another controller"):
        await open_sqlite(tmp_path / "c.db")
    await add(store, route("a"))
    await store.close()
    again = await open_sqlite(tmp_path / "c.db")
    await again.close()


async def test_a_failing_disk_refuses_and_changes_nothing(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "c.db")
    book = await add(store, route("a"))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    big = [route(str(i), description="x" * 1000) for i in range(200)]
    with pytest.raises(StoreUnavailable, match="database or disk is full"):
        await add(store, *big)
    assert (await store.load("default")).book == book
    store._connection.execute("PRAGMA max_page_count = 100000")
    assert (await add(store, *big)).revision == 2
    await store.close()


async def test_the_log_tells_all(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    store = await open_sqlite(path)
    book = await add(store, route("a"), fault("f"))
    change = rulebook.replace(book, [route("a", "ratings")], write(NOON + 1, request_id="r-2"))
    await store.append("default", 1, change)
    with pytest.raises(Superseded):
        await store.append("default", 1, change)
    await store.close()
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT revision, at, cause, request_id, destinations, before, after FROM revisions"
    ).fetchall()
    connection.close()
    assert [row[0] for row in rows] == [1, 2]
    assert rows[1][1:5] == (change.at, "replace", "r-2", '["ratings","reviews"]')
    assert msgspec.json.decode(rows[1][5], type=tuple[Rule, ...]) == change.before
    assert msgspec.json.decode(rows[1][6], type=tuple[Rule, ...]) == change.after


async def test_the_log_is_bounded_and_the_rules_are_not(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "c.db", kept=3)
    for i in range(6):
        await add(store, route(f"rule-{i}"))
    kept = store._connection.execute("SELECT revision FROM revisions ORDER BY 1").fetchall()
    assert kept == [(4,), (5,), (6,)]
    await store.close()
    again = await open_sqlite(tmp_path / "c.db")
    book = (await again.load("default")).book
    assert (book.revision, len(book.rules)) == (6, 6)
    assert len(rulebook.select(book, Selection())) == 6
    await again.close()
