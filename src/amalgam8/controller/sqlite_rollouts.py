"""Rollouts in the SQLite file beside the rules, one row for each, with the same promise: once acknowledged,
on the disk. Reads look at a mirror in memory. The file is held by one controller, so that one always leads.
"""

import sqlite3
from collections.abc import Awaitable, Callable

import msgspec

from amalgam8.controller.rollout import Rollout
from amalgam8.controller.rollout_store import MemoryRollouts, newest_first

Written = Callable[[Callable[[sqlite3.Connection], None], Callable[[], None]], Awaitable[None]]
"""Carries the first out in a transaction, and then the second, once that is on the disk."""


class SqliteRollouts:
    """A RolloutStore. ``connection`` is for reading what is there now, ``written`` for all writes."""

    def __init__(self, connection: sqlite3.Connection, written: Written) -> None:
        self._written = written
        rows = connection.execute("SELECT tenant, document FROM rollouts").fetchall()
        self._mirror = MemoryRollouts(
            (tenant, msgspec.json.decode(text, type=Rollout)) for tenant, text in rows
        )

    async def all(self, tenant: str) -> list[Rollout]:
        return await self._mirror.all(tenant)

    async def active(self) -> list[tuple[str, Rollout]]:
        return await self._mirror.active()

    async def put(self, tenant: str, rollout: Rollout) -> None:
        self._mirror.check(tenant, rollout)
        # A mirror of the tenant's own, since what is let go must go from the file in the same transaction.
        trial = MemoryRollouts((tenant, one) for one in newest_first(await self._mirror.all(tenant)))
        gone = trial.take(tenant, rollout)
        text = msgspec.json.encode(rollout).decode()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO rollouts (tenant, id, edition, document) VALUES (?, ?, ?, ?)",
                (tenant, rollout.id, rollout.edition, text),
            )
            connection.executemany(
                "DELETE FROM rollouts WHERE tenant = ? AND id = ?", [(tenant, one) for one in gone]
            )

        def show() -> None:
            self._mirror.take(tenant, rollout)

        await self._written(write, show)

    async def lead(self, holder: str, seconds: float) -> bool:
        return await self._mirror.lead(holder, seconds)
