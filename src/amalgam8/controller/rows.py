"""The rows of the SQLite file: how changes, rules and what waits are written to tables and read from them.

Plain functions on a connection, within somebody else's transaction. Rules are kept as their JSON. Refuses
to decide anything but one: whether a change was made for the revision that the tenant is at.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from amalgam8.controller.book import Change, Rulebook, Unconfirmed, Written, book_of, micros
from amalgam8.controller.store import WHOLE_LOG, superseded
from amalgam8.model.rule import Rule

RESUME_LENGTH = 1000
"""Revisions looked up at start, so that sidecars resume across a restart."""


def advance(connection: sqlite3.Connection, tenant: str, expected: int, change: Change) -> None:
    found = connection.execute("SELECT revision, newest FROM tenants WHERE tenant = ?", (tenant,)).fetchone()
    revision, newest = found or (0, 0)
    if revision != expected or change.revision != expected + 1:
        raise superseded(revision, expected)
    newest = max([newest, *(micros(rule.created) for rule in change.after)])
    connection.execute(
        "INSERT OR REPLACE INTO tenants (tenant, revision, newest) VALUES (?, ?, ?)",
        (tenant, change.revision, newest),
    )


_COLUMNS = "revision, at, cause, before, after, request_id, author, comment, confirm_by, about"


def insert_log(connection: sqlite3.Connection, tenant: str, log: Iterable[Change]) -> None:
    connection.executemany(
        f"INSERT INTO revisions (tenant, destinations, {_COLUMNS})"  # noqa: S608 - our own columns
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                tenant,
                json_text(sorted(change.destinations)),
                change.revision,
                change.at,
                change.cause,
                json_text(change.before),
                json_text(change.after),
                change.request_id,
                change.author,
                change.comment,
                change.confirm_by,
                json_text(change.about),
            )
            for change in log
        ],
    )


def read_log(
    connection: sqlite3.Connection, tenant: str, above: int, below: int | None, limit: int
) -> list[Change]:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM revisions WHERE tenant = ? AND revision > ? AND revision < ?"  # noqa: S608 - constants only
        " ORDER BY revision DESC LIMIT ?",
        (tenant, above, WHOLE_LOG if below is None else below, limit),
    ).fetchall()
    rules = msgspec.json.Decoder(tuple[Rule, ...])
    return [
        Change(
            revision,
            at,
            cause,
            rules.decode(before),
            rules.decode(after),
            request_id,
            author,
            comment,
            confirm_by,
            msgspec.json.decode(about, type=tuple[int, ...]),
        )
        for revision, at, cause, before, after, request_id, author, comment, confirm_by, about in rows
    ]


def insert_rules(connection: sqlite3.Connection, tenant: str, rules: Iterable[Rule], book: Rulebook) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO rules (tenant, id, document, revision, at) VALUES (?, ?, ?, ?, ?)",
        [
            (tenant, rule.id, json_text(rule), book.written[rule.id].revision, book.written[rule.id].at)
            for rule in rules
        ],
    )


def insert_unconfirmed(connection: sqlite3.Connection, tenant: str, book: Rulebook) -> None:
    connection.execute("DELETE FROM unconfirmed WHERE tenant = ?", (tenant,))
    connection.executemany(
        "INSERT INTO unconfirmed (tenant, revision, document) VALUES (?, ?, ?)",
        [(tenant, waiting.revision, json_text(waiting)) for waiting in book.unconfirmed],
    )


def read_book(connection: sqlite3.Connection, tenant: str) -> Rulebook:
    revision, newest = connection.execute(
        "SELECT revision, newest FROM tenants WHERE tenant = ?", (tenant,)
    ).fetchone()
    rows = connection.execute(
        "SELECT document, revision, at FROM rules WHERE tenant = ?", (tenant,)
    ).fetchall()
    rules = [msgspec.json.decode(text, type=Rule) for text, *_ in rows]
    written = {rule.id: Written(at, when) for rule, (_, at, when) in zip(rules, rows, strict=True)}
    waiting = connection.execute("SELECT document FROM unconfirmed WHERE tenant = ?", (tenant,)).fetchall()
    unconfirmed = [msgspec.json.decode(text, type=Unconfirmed) for (text,) in waiting]
    return book_of(rules, revision, newest, written, unconfirmed)


def read_touched(connection: sqlite3.Connection, tenant: str) -> list[tuple[int, frozenset[str]]]:
    rows = connection.execute(
        "SELECT revision, destinations FROM revisions WHERE tenant = ? ORDER BY revision DESC LIMIT ?",
        (tenant, RESUME_LENGTH),
    ).fetchall()
    return [(revision, msgspec.json.decode(text, type=frozenset[str])) for revision, text in reversed(rows)]


def json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()
