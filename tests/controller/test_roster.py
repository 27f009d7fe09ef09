"""Who the sidecars are outlives the process; a store that fails is tried again."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from amalgam8.controller import roster
from amalgam8.controller.fleet import FORGOTTEN_AFTER
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.tenants import Tenants
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import StoreUnavailable
from tests.conftest import eventually

WEB, API = caller("web", ["v1", "x"]), caller("api")


async def test_a_restart_expects_the_same_sidecars(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path / "c.db")
    tenants = Tenants(store, 60.0)
    fleet = (await tenants.get("default")).fleet
    fleet.opened("a", WEB, 0.0)
    fleet.opened("b", WEB, 0.0)
    await roster.store(tenants)
    fleet.opened("b", API, 1.0)
    fleet.opened("c", API, 1.0)
    await roster.store(tenants)
    await store.close()

    store = await open_sqlite(tmp_path / "c.db")
    tenants = Tenants(store, 60.0, clock=lambda: 500.0)
    fleet = (await tenants.get("default")).fleet
    assert {one.id: (one.caller, one.heard) for one in fleet.present(500.0)} == {
        "a": (WEB, 500.0),
        "b": (API, 500.0),
        "c": (API, 500.0),
    }
    fleet.forget(500.0 + FORGOTTEN_AFTER + 1)
    await roster.store(tenants)
    await store.close()
    store = await open_sqlite(tmp_path / "c.db")
    assert store.sidecars("default") == {}
    await store.close()


class Failing(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Caller | None] = {}
        self.failures = 1

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:  # noqa: ARG002
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        self.kept.update(news)


async def test_a_store_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "PAUSE", 0.01)
    store = Failing()
    tenants = Tenants(store, 60.0)
    fleet = (await tenants.get("default")).fleet
    fleet.opened("a", WEB, 0.0)
    following = asyncio.create_task(roster.follow(tenants))

    async def kept() -> bool:
        return store.kept == {"a": WEB}

    await eventually(kept)
    following.cancel()
    assert fleet.take_news() == {}
