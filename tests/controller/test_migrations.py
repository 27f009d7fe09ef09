"""Files of earlier schemas open, with all that they hold. ``schema-1.db`` was written by that version."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from amalgam8.controller import migrations
from amalgam8.controller.migrations import MIGRATIONS, SCHEMA_VERSION, migrate
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.tenants import Tenants

FIRST = Path(__file__).parent / "files" / "schema-1.db"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copy(FIRST, tmp_path / "controller.db"))


def version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return int(found)


async def test_a_file_of_the_first_schema_opens_with_all_that_it_holds(old: Path) -> None:
    assert version(old) == 1
    with sqlite3.connect(old) as connection:
        (epoch,) = connection.execute("SELECT value FROM identity WHERE name = 'epoch'").fetchone()
    connection.close()
    store = await open_sqlite(old)
    book = (await store.load("default")).book
    assert (store.epoch, book.revision) == (epoch.decode(), 3)
    assert {name: rule.revision for name, rule in book.written.items()} == {"a": 2, "f": 1}
    assert book.written["a"].at > book.written["f"].at > "2030"
    assert book.rules["a"].description == "é"
    assert book.rules["f"].ttl == 0
    log = await store.log("default")
    assert [(change.revision, change.cause, change.request_id) for change in log] == [
        (3, "remove", "r-3"),
        (2, "replace", "r-2"),
        (1, "create", "r-1"),
    ]
    assert [(change.author, change.comment, change.about) for change in log] == [("", "", ())] * 3
    assert len((await store.load("other")).book.rules) == 1
    # It can be gone back to, and written to.
    tenants = Tenants(store, 60.0)
    tenant = await tenants.get("default")
    await tenants.rollback(tenant, 1)
    assert sorted(tenant.mirror.book.rules) == ["a", "b", "f"]
    await store.close()
    assert version(old) == SCHEMA_VERSION


async def test_a_migration_that_dies_leaves_the_file_as_it_was(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(connection: sqlite3.Connection) -> None:
        MIGRATIONS[1](connection)
        raise RuntimeError("the power is gone")

    connection = sqlite3.connect(old, isolation_level=None)
    before = list(connection.iterdump())
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", (MIGRATIONS[0], die))
        with pytest.raises(RuntimeError):
            migrate(connection, 1)
    assert list(connection.iterdump()) == before
    migrate(connection, 1)
    connection.close()
    assert version(old) == SCHEMA_VERSION


def test_a_new_file_goes_the_same_way(tmp_path: Path, old: Path) -> None:
    schemas = []
    for path, start in ((tmp_path / "new.db", 0), (old, 1)):
        connection = sqlite3.connect(path, isolation_level=None)
        migrate(connection, start)
        schemas.append(sorted(connection.execute("SELECT name, sql FROM sqlite_master").fetchall()))
        connection.close()
    assert schemas[0] == schemas[1]
