"""The store in one SQLite file: what was acknowledged is on the disk.

WAL, ``synchronous=FULL``; rules and the log of revisions change in one transaction, in one thread that
does nothing else. The file is held exclusively: a second controller on it is refused, as is a file that is
damaged, of another program or of a newer version; each refusal is one sentence naming ``database_path``.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.migrations import APPLICATION_ID, SCHEMA_VERSION, migrate
from amalgam8.controller.rollout_store import RolloutStore
from amalgam8.controller.rows import (
    advance,
    insert_log,
    insert_rules,
    insert_unconfirmed,
    json_text,
    read_book,
    read_log,
    read_touched,
)
from amalgam8.controller.sqlite_rollouts import SqliteRollouts
from amalgam8.controller.store import WHOLE_LOG, Alone, Mirror, not_empty, superseded
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import A8Error, InvalidSetting, StoreUnavailable

REVISIONS_KEPT = 10_000
"""Revisions in the log by default. Older ones leave it; the rules themselves stay."""

LOCK_PATIENCE = 2.0
"""Seconds to wait for a predecessor that is just ending."""


class SqliteStore(Alone):
    """A Store in the file at ``path`` with a log of ``kept`` revisions. Made by ``open_sqlite``."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, thread: ThreadPoolExecutor, kept: int
    ) -> None:
        self._path = path
        self._connection = connection
        self._thread = thread
        self._kept = kept
        self._mirrors = {
            tenant: Mirror(read_book(connection, tenant), read_touched(connection, tenant))
            for (tenant,) in connection.execute("SELECT tenant FROM tenants").fetchall()
        }
        self._sidecars: dict[str, dict[str, Caller]] = {}
        for tenant, name, service, tags in connection.execute("SELECT * FROM sidecars"):
            found = self._sidecars.setdefault(tenant, {})
            found[name] = caller(service, msgspec.json.decode(tags, type=list[str]))
        identity = dict(connection.execute("SELECT name, value FROM identity").fetchall())
        self.epoch = bytes(identity["epoch"]).decode()
        self.secret = bytes(identity["secret"])
        self.rollouts: RolloutStore = SqliteRollouts(connection, self._written_to)

    def tenants(self) -> Iterable[str]:
        return [tenant for tenant, mirror in self._mirrors.items() if mirror.book.revision]

    def sidecars(self, tenant: str) -> Mapping[str, Caller]:
        return self._sidecars.get(tenant, {})

    async def load(self, tenant: str) -> Mirror:
        if tenant not in self._mirrors:
            self._mirrors[tenant] = Mirror(Rulebook())
        return self._mirrors[tenant]

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        mirror = await self.load(tenant)
        if mirror.book.revision != expected or change.revision != expected + 1:
            raise superseded(mirror.book.revision, expected)
        book = apply(mirror.book, change)
        await self._written(lambda: self._write(tenant, expected, change, book), lambda: mirror.take(change))

    async def log(
        self, tenant: str, above: int = 0, below: int | None = None, limit: int = WHOLE_LOG
    ) -> list[Change]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._read, tenant, above, below, limit)

    async def restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        mirror = await self.load(tenant)
        if mirror.book.revision:
            raise not_empty(mirror.book.revision)
        await self._written(lambda: self._restore(tenant, book, log), lambda: mirror.replace(book))

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._remember, tenant, news)

    async def close(self) -> None:
        """Wait for the write that is under way, then close the file."""
        loop = asyncio.get_running_loop()
        await asyncio.shield(loop.run_in_executor(self._thread, self._connection.close))
        self._thread.shutdown(wait=False)

    async def _written(self, write: Callable[[], None], show: Callable[[], None]) -> None:
        """Write in the thread, and show it as soon as it is on the disk."""
        written = asyncio.get_running_loop().run_in_executor(self._thread, write)

        # Not after the await: whoever waits may give up, and the mirror must show what is on the disk.
        def taken(done: asyncio.Future[None]) -> None:
            if not done.cancelled() and done.exception() is None:
                show()

        written.add_done_callback(taken)
        await asyncio.shield(written)

    async def _written_to(
        self, write: Callable[[sqlite3.Connection], None], show: Callable[[], None]
    ) -> None:
        def changed() -> None:
            with self._changing() as connection:
                write(connection)

        await self._written(changed, show)

    def _write(self, tenant: str, expected: int, change: Change, book: Rulebook) -> None:
        with self._changing() as connection:
            advance(connection, tenant, expected, change)
            insert_log(connection, tenant, [change])
            connection.execute(
                "DELETE FROM revisions WHERE tenant = ? AND revision <= ?",
                (tenant, change.revision - self._kept),
            )
            connection.executemany(
                "DELETE FROM rules WHERE tenant = ? AND id = ?",
                [(tenant, rule.id) for rule in change.before if rule.id not in book.rules],
            )
            insert_rules(connection, tenant, change.after, book)
            insert_unconfirmed(connection, tenant, book)

    def _restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        with self._changing() as connection:
            found = connection.execute("SELECT revision FROM tenants WHERE tenant = ?", (tenant,)).fetchone()
            if found:
                raise not_empty(found[0])
            connection.execute(
                "INSERT INTO tenants (tenant, revision, newest) VALUES (?, ?, ?)",
                (tenant, book.revision, book.newest),
            )
            insert_log(connection, tenant, [one for one in log if one.revision > book.revision - self._kept])
            insert_rules(connection, tenant, book.rules.values(), book)
            insert_unconfirmed(connection, tenant, book)

    def _remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        with self._changing() as connection:
            connection.executemany(
                "DELETE FROM sidecars WHERE tenant = ? AND id = ?",
                [(tenant, name) for name, who in news.items() if who is None],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO sidecars (tenant, id, service, tags) VALUES (?, ?, ?, ?)",
                [(tenant, name, who.service, json_text(who.tags)) for name, who in news.items() if who],
            )

    def _read(self, tenant: str, above: int, below: int | None, limit: int) -> list[Change]:
        try:
            return read_log(self._connection, tenant, above, below, limit)
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise StoreUnavailable(f"the history cannot be read from {self._path}: {error}") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        try:
            with _transaction(self._connection) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the rules cannot be written to {self._path}: {error}") from None


async def open_sqlite(path: Path, kept: int = REVISIONS_KEPT) -> SqliteStore:
    """Open or make the file, and its folder.

    Raises:
        InvalidSetting: it cannot be used; one sentence that names ``database_path`` and says why.
    """
    thread = ThreadPoolExecutor(1, "sqlite")
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _open, path, thread, kept)
    except BaseException:
        thread.shutdown(wait=False)
        raise


def _open(path: Path, thread: ThreadPoolExecutor, kept: int) -> SqliteStore:
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
        return SqliteStore(path, connection, thread, kept)
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
    migrate(connection, version)
    if not tables:
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
