"""The store that the settings ask for."""

import sys
from pathlib import Path

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.settings import ControllerSettings
from amalgam8.controller.stores import opened
from amalgam8.model.errors import InvalidSetting, StoreUnavailable
from tests.controller.kubernetes_cluster import NAMESPACE, kubernetes_kit
from tests.controller.rules import route, write
from tests.valkey import PASSWORD, valkey


async def test_each_kind_opens_and_keeps_a_rule(tmp_path: Path) -> None:
    with valkey(durable=True) as server:
        for kind in ("memory", "sqlite", "redis"):
            shared = kind == "redis"
            settings = ControllerSettings(
                database_type=kind,
                database_path=tmp_path / "c.db",
                database_host=f"unix://{server.socket}" if shared else "",
                database_username="default" if shared else "",
                database_password=PASSWORD if shared else "",
            )
            for expected in (0, 0 if kind == "memory" else 1):
                async with opened(settings) as store:
                    assert store.shared is shared
                    book = (await store.load("default")).book
                    assert book.revision == expected, kind
                    if not expected:
                        await store.append("default", 0, rulebook.create(book, [route("a")], write()))


async def test_rules_in_kubernetes() -> None:
    async with kubernetes_kit() as kit:
        settings = ControllerSettings(
            database_type="kubernetes", database_namespace=NAMESPACE, k8s_url=f"http://127.0.0.1:{kit.port}"
        )
        for expected in (0, 1):
            async with opened(settings) as store:
                book = (await store.load("default")).book
                assert book.revision == expected
                if not expected:
                    await store.append("default", 0, rulebook.create(book, [route("a")], write()))


async def test_a_wrong_password_is_no_reason_not_to_serve() -> None:
    with valkey() as server:
        settings = ControllerSettings(
            database_type="redis", database_host=f"unix://{server.socket}", database_password="wrong"
        )
        async with opened(settings) as store:
            with pytest.raises(StoreUnavailable):
                await store.load("default")


async def test_the_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("amalgam8.controller.redis", "amalgam8.clients.redis_link"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidSetting, match=r"amalgam8\[redis\]"):
        async with opened(ControllerSettings(database_type="redis", database_host="store")):
            pass
