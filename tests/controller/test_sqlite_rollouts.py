"""Rollouts in the file: a write that fails shows nothing. More stands in ``tests/contracts``."""

import sqlite3
from pathlib import Path

import pytest

from amalgam8.controller.sqlite import open_sqlite
from amalgam8.model.errors import StoreUnavailable
from tests.contracts.test_rollout_store import rollout


async def test_a_write_that_fails_shows_nothing(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "rules.db")
    first = rollout()
    await store.rollouts.put("default", first)

    def refuse(*_: object) -> int:
        return sqlite3.SQLITE_DENY

    store._connection.set_authorizer(refuse)
    with pytest.raises(StoreUnavailable):
        await store.rollouts.put("default", first.went("2030", "more"))
    store._connection.set_authorizer(None)
    assert await store.rollouts.all("default") == [first]
    await store.rollouts.put("default", first.went("2030", "more"))
    await store.close()
