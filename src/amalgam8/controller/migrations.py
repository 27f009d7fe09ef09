"""The schema of the SQLite file, and how files of earlier schemas become files of this one.

Each migration is one transaction with the new schema's number in it: one that dies half way leaves the
file as it was. A new file goes the same way from the first schema on. Refuses files of a newer schema.
"""

import secrets
import sqlite3
import uuid
from collections.abc import Callable

import msgspec

from amalgam8.controller.book import Written
from amalgam8.model.rule import Rule

APPLICATION_ID = 0x61386374  # "a8ct"

_FIRST = f"""
CREATE TABLE identity (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE tenants (
    tenant TEXT PRIMARY KEY, revision INTEGER NOT NULL, newest INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE revisions (
    tenant TEXT NOT NULL, revision INTEGER NOT NULL, at TEXT NOT NULL, cause TEXT NOT NULL,
    request_id TEXT NOT NULL, destinations TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
    PRIMARY KEY (tenant, revision)
);
CREATE TABLE rules (
    tenant TEXT NOT NULL, id TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (tenant, id)
);
PRAGMA application_id = {APPLICATION_ID};
"""

_SECOND = """
ALTER TABLE revisions ADD COLUMN author TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN comment TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN confirm_by TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN about TEXT NOT NULL DEFAULT '[]';
ALTER TABLE rules ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rules ADD COLUMN at TEXT NOT NULL DEFAULT '';
CREATE TABLE unconfirmed (
    tenant TEXT NOT NULL, revision INTEGER NOT NULL, document TEXT NOT NULL, PRIMARY KEY (tenant, revision)
);
CREATE TABLE sidecars (
    tenant TEXT NOT NULL, id TEXT NOT NULL, service TEXT NOT NULL, tags TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
"""

_THIRD = """
CREATE TABLE rollouts (
    tenant TEXT NOT NULL, id TEXT NOT NULL, edition INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
"""


def _first(connection: sqlite3.Connection) -> None:
    """Rules, the log of revisions, who the store is."""
    _run(connection, _FIRST)
    connection.executemany(
        "INSERT INTO identity (name, value) VALUES (?, ?)",
        [("epoch", uuid.uuid4().hex[:16].encode()), ("secret", secrets.token_bytes(32))],
    )


def _second(connection: sqlite3.Connection) -> None:
    """Authors, comments, changes that wait to be confirmed, sidecars, and when each rule was written."""
    _run(connection, _SECOND)
    written: dict[tuple[str, str], Written] = {}
    log = connection.execute("SELECT tenant, revision, at, after FROM revisions ORDER BY revision")
    for tenant, revision, at, after in log:
        for rule in msgspec.json.decode(after, type=tuple[Rule, ...]):
            written[tenant, rule.id] = Written(revision, at)
    connection.executemany(
        "UPDATE rules SET revision = ?, at = ? WHERE tenant = ? AND id = ?",
        [(when.revision, when.at, tenant, identity) for (tenant, identity), when in written.items()],
    )


def _third(connection: sqlite3.Connection) -> None:
    """Rollouts."""
    _run(connection, _THIRD)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first, _second, _third)
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Take the file from schema ``version`` (0: a new file) to this one; within a transaction of its own."""
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _run(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";"):
        connection.execute(statement)
