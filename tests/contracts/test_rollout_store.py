"""What every store of rollouts keeps to: one edition after another, tenants apart, bounds, memory."""

from pathlib import Path

import msgspec
import pytest

from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rollout_store import ENDED_KEPT
from amalgam8.controller.sqlite import open_sqlite
from amalgam8.controller.store import Store
from amalgam8.model.errors import Superseded
from tests.contracts.test_rule_store import opener, server, store
from tests.controller.rules import route

__all__ = ["opener", "server", "store"]  # fixtures
ORDER = Order("reviews", ("v2",), max_p99=0.25)


def rollout(identity: str = "r", created: str = "2030-01-01T00:00:00Z", **more: object) -> Rollout:
    made = Rollout(identity, 0, ORDER, route("base"), "running", created, "ann").went(created, "started")
    return msgspec.structs.replace(made, **more)


async def test_an_edition_shows_once_it_is_kept(store: Store) -> None:
    assert await store.rollouts.all("default") == []
    first = rollout()
    await store.rollouts.put("default", first)
    second = first.went("2030-01-01T00:01:00Z", "25 %", step=1)
    await store.rollouts.put("default", second)
    assert await store.rollouts.all("default") == [second]
    assert await store.rollouts.active() == [("default", second)]


@pytest.mark.parametrize("edition", [1, 2, 4])
async def test_any_edition_but_the_next_is_refused(store: Store, edition: int) -> None:
    first = rollout()
    await store.rollouts.put("default", first)
    second = first.went("2030-01-01T00:01:00Z", "25 %", step=1)
    await store.rollouts.put("default", second)
    with pytest.raises(Superseded):
        await store.rollouts.put("default", msgspec.structs.replace(first, edition=edition))
    assert await store.rollouts.all("default") == [second]


async def test_a_new_one_begins_at_the_first_edition(store: Store) -> None:
    with pytest.raises(Superseded):
        await store.rollouts.put("default", rollout(edition=2))


async def test_tenants_are_apart(store: Store) -> None:
    await store.rollouts.put("one", rollout())
    await store.rollouts.put("other", rollout(state="done"))
    assert [one.state for one in await store.rollouts.all("one")] == ["running"]
    assert [one.state for one in await store.rollouts.all("other")] == ["done"]
    assert [tenant for tenant, _ in await store.rollouts.active()] == ["one"]


async def test_those_that_are_over_are_kept_for_a_while(store: Store) -> None:
    running = rollout("old", "2029-01-01T00:00:00Z")
    await store.rollouts.put("default", running)
    for number in range(ENDED_KEPT + 5):
        await store.rollouts.put("default", rollout(f"{number}", f"2030-01-01T00:{number:05}Z", state="done"))
    found = await store.rollouts.all("default")
    assert len(found) == ENDED_KEPT + 1
    assert found[0].id == f"{ENDED_KEPT + 4}"
    assert found[-1] == running


async def test_somebody_leads(store: Store) -> None:
    assert await store.rollouts.lead("me", 10.0)


async def test_a_file_remembers(tmp_path: Path) -> None:
    path = tmp_path / "rules.db"
    opened = await open_sqlite(path)
    for number in range(ENDED_KEPT + 3):
        await opened.rollouts.put(
            "default", rollout(f"{number}", f"2030-01-01T00:{number:05}Z", state="done")
        )
    await opened.rollouts.put("other", rollout())
    before = await opened.rollouts.all("default")
    await opened.close()
    again = await open_sqlite(path)
    assert await again.rollouts.all("default") == before
    assert await again.rollouts.active() == [("other", rollout())]
    await again.close()


async def test_memory_does_not() -> None:
    await MemoryStore().rollouts.put("default", rollout())
    assert await MemoryStore().rollouts.all("default") == []
