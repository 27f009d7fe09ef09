"""What people change in the store itself becomes a change like any other."""

import pytest

from amalgam8.controller import outside
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.outside import Edit
from amalgam8.controller.tenants import Tenants
from amalgam8.model.rule import Rule
from tests.controller.rules import route


class Desk:
    """Takes edits and keeps what was refused."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.tenants = Tenants(self.store, 3600.0)
        self.refused: list[str] = []

    async def take(self, identity: str, rule: Rule | None) -> list[str]:
        """The causes of all changes so far, oldest first."""
        await outside.take(self.tenants, Edit("default", identity, rule, self.refused.append))
        return [change.cause for change in reversed(await self.store.log("default"))]


async def test_made_changed_and_removed() -> None:
    desk = Desk()
    assert await desk.take("a", route("a")) == ["create"]
    assert await desk.take("a", route("a", version="v2")) == ["create", "replace"]
    assert await desk.take("a", None) == ["create", "replace", "remove"]
    authors = {change.author for change in await desk.store.log("default")}
    assert authors == {outside.OUTSIDE}
    assert not desk.refused


async def test_what_is_so_already_is_no_revision() -> None:
    desk = Desk()
    await desk.take("a", route("a"))
    assert await desk.take("a", route("a")) == ["create"]
    assert await desk.take("b", None) == ["create"]


async def test_what_is_refused_is_told() -> None:
    desk = Desk()
    assert await desk.take("a", route("a", expires="2001-01-01T00:00:00Z")) == []
    assert len(desk.refused) == 1
    assert "passed" in desk.refused[0]


def test_only_a_store_that_people_change_has_edits() -> None:
    assert not isinstance(MemoryStore(), outside.Edited)
    from amalgam8.controller.kubernetes import KubernetesStore

    assert issubclass(KubernetesStore, outside.Edited)


@pytest.mark.parametrize("rule", [route("a"), None])
async def test_a_store_that_is_away_is_no_refusal(rule: Rule | None, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    await desk.take("a", route("a", version="v9"))

    async def away(*_: object) -> None:
        from amalgam8.model.errors import StoreUnavailable

        raise StoreUnavailable("not now")

    monkeypatch.setattr(desk.store, "append", away)
    await desk.take("a", rule)
    assert not desk.refused
