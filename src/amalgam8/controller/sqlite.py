"""The store in one SQLite file: what was acknowledged is on the disk.

WAL, ``synchronous=FULL``; rules and the log of revisions change in one transaction, in one thread that
does nothing else. The file is held exclusively: a second controller on it is refused, as is a file that is
damaged, of another program or of a newer version; each refusal is one sentence naming ``database_path``.
"""

import asyncio
import contextlib
import os
import secrets
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from amalgam8.controller.rulebook import Change, Rulebook, book_of, micros
from amalgam8.controller.store import Mirror
from amalgam8.model.errors import A8Error, InvalidSetting, StoreUnavailable, Superseded
from amalgam8.model.rule import Rule

SCHEMA_VERSION = 1
APPLICATION_ID = 0x61386374  # "a8ct"
REVISIONS_KEPT = 10_000
"""Older revisions leave the log; the rules themselves stay."""

RESUME_LENGTH = 1000
"""Revisions looked up at start, so that sidecars resume across a restart."""

LOCK_PATIENCE = 2.0
"""Seconds to wait for a predecessor that is just ending."""

_SCHEMA = f"""
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
PRAGMA user_version = {SCHEMA_VERSION};
"""


class SqliteStore:
    """A Store in the file at ``path``. Made by ``open_sqlite``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._connection = connection
        self._thread = thread
        self._mirrors = {
            tenant: Mirror(_book(connection, tenant), _touched(connection, tenant))
            for (tenant,) in connection.execute("SELECT tenant FROM tenants").fetchall()
        }
        identity = dict(connection.execute("SELECT name, value FROM identity").fetchall())
        self.epoch = bytes(identity["epoch"]).decode()
        self.secret = bytes(identity["secret"])

    def tenants(self) -> Iterable[str]:
        return [tenant for tenant, mirror in self._mirrors.items() if mirror.book.revision]

    async def load(self, tenant: str) -> Mirror:
        if tenant not in self._mirrors:
            self._mirrors[tenant] = Mirror(Rulebook())
        return self._mirrors[tenant]

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        mirror = await self.load(tenant)
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._write, tenant, expected, change)

        # Not after the await: whoever waits may give up, and the mirror must show what is on the disk.
        def taken(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                mirror.take(change)

        written.add_done_callback(taken)
        await asyncio.shield(written)

    async def close(self) -> None:
        """Wait for the write that is under way, then close the file."""
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._thread, self._connection.close))
        self._thread.shutdown(wait=False)

    def _write(self, tenant: str, expected: int, change: Change) -> None:
        try:
            with _transaction(self._connection) as connection:
                _advance(connection, tenant, expected, change)
                _log(connection, tenant, change)
                kept = {rule.id for rule in change.after}
                connection.executemany(
                    "DELETE FROM rules WHERE tenant = ? AND id = ?",
                    [(tenant, rule.id) for rule in change.before if rule.id not in kept],
                )
                connection.executemany(
                    "INSERT OR REPLACE INTO rules (tenant, id, document) VALUES (?, ?, ?)",
                    [(tenant, rule.id, _json(rule)) for rule in change.after],
                )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the rules cannot be written to {self._path}: {error}") from None


async def open_sqlite(path: Path) -> SqliteStore:
    """Open or make the file, and its folder.

    Raises:
        InvalidSetting: it cannot be used; one sentence that names ``database_path`` and says why.
    """
    thread = ThreadPoolExecutor(1, "sqlite")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _open, path, thread)
    except BaseException:
        thread.shutdown(wait=False)
        raise


def _open(path: Path, thread: ThreadPoolExecutor) -> SqliteStore:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made here rather than by SQLite: rules and the secret are for nobody else to read.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            path, timeout=LOCK_PATIENCE, isolation_level=None, check_same_thread=False, cached_statements=32
        )
    except OSError as error:
        raise _refusal(path, f"cannot be used: {error.strerror}") from None
    except sqlite3.Error as error:
        raise _refusal(path, f"cannot be used: {error}") from None
    try:
        _prepare(path, connection)
        return SqliteStore(path, connection, thread)
    except (sqlite3.DatabaseError, msgspec.DecodeError, UnicodeDecodeError, KeyError, ValueError) as error:
        connection.close()
        raise _refusal(path, _why(error)) from None
    except A8Error:
        connection.close()
        raise


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    """Take the lock, check that the file is ours and sound, make the tables of a new one."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    with _transaction(connection):
        pass  # the lock is ours from here on
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if (tables or application) and application != APPLICATION_ID:
        raise _refusal(path, "is a database of another program")
    if version > SCHEMA_VERSION:
        raise _refusal(
            path,
            f"was written by a newer version (schema {version}; this one knows {SCHEMA_VERSION}): "
            "upgrade this controller",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    if not tables:
        with _transaction(connection):
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO identity (name, value) VALUES (?, ?)",
                [("epoch", uuid.uuid4().hex[:16].encode()), ("secret", secrets.token_bytes(32))],
            )
        _sync_folder(path.parent)
    (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise _refusal(path, f"is damaged: {sound.splitlines()[-1]}; restore it from a copy or move it away")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _advance(connection: sqlite3.Connection, tenant: str, expected: int, change: Change) -> None:
    found = connection.execute("SELECT revision, newest FROM tenants WHERE tenant = ?", (tenant,)).fetchone()
    revision, newest = found or (0, 0)
    if revision != expected or change.revision != expected + 1:
        raise Superseded(f"the rules are at revision {revision}, this change was made for {expected}")
    newest = max([newest, *(micros(rule.created) for rule in change.after)])
    connection.execute(
        "INSERT OR REPLACE INTO tenants (tenant, revision, newest) VALUES (?, ?, ?)",
        (tenant, change.revision, newest),
    )


def _log(connection: sqlite3.Connection, tenant: str, change: Change) -> None:
    connection.execute(
        "INSERT INTO revisions (tenant, revision, at, cause, request_id, destinations, before, after)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            tenant,
            change.revision,
            change.at,
            change.cause,
            change.request_id,
            _json(sorted(change.destinations)),
            _json(change.before),
            _json(change.after),
        ),
    )
    connection.execute(
        "DELETE FROM revisions WHERE tenant = ? AND revision <= ?",
        (tenant, change.revision - REVISIONS_KEPT),
    )


def _book(connection: sqlite3.Connection, tenant: str) -> Rulebook:
    revision, newest = connection.execute(
        "SELECT revision, newest FROM tenants WHERE tenant = ?", (tenant,)
    ).fetchone()
    documents = connection.execute("SELECT document FROM rules WHERE tenant = ?", (tenant,))
    return book_of([msgspec.json.decode(text, type=Rule) for (text,) in documents], revision, newest)


def _touched(connection: sqlite3.Connection, tenant: str) -> list[tuple[int, frozenset[str]]]:
    rows = connection.execute(
        "SELECT revision, destinations FROM revisions WHERE tenant = ? ORDER BY revision DESC LIMIT ?",
        (tenant, RESUME_LENGTH),
    ).fetchall()
    return [(revision, msgspec.json.decode(text, type=frozenset[str])) for revision, text in reversed(rows)]


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _refusal(path: Path, why: str) -> InvalidSetting:
    return InvalidSetting(f"database_path: {path} {why}")


def _why(error: Exception) -> str:
    text = str(error)
    if "locked" in text:
        return "is in use by another controller"
    if any(words in text for words in ("readonly", "unable to open", "disk I/O", "is full")):
        return f"cannot be used: {text}"
    if "not a database" in text:
        return "is not a database of this program; move it away or name another file"
    return f"is damaged: {text}; restore it from a copy or move it away"


def _sync_folder(folder: Path) -> None:
    """Make the new file's name as safe as its content."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
