"""Starting rollouts, what people say to them, two controllers on one store, stores that fail."""

import msgspec
import pytest

from amalgam8.controller import rollouts as module
from amalgam8.controller.memory import MemoryStore
from amalgam8.controller.rollout import Order, Rollout
from amalgam8.controller.rollout_store import MemoryRollouts
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.rulebook import create
from amalgam8.model.errors import (
    NoDefaultVersion,
    RolloutNotFound,
    RolloutRunning,
    StoreUnavailable,
    TooManyRollouts,
)
from tests.controller.rules import route
from tests.controller.world import ORDER, world


async def test_one_for_each_service(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await world()
    others = [route("d", "details"), route("p", "ratings")]
    await made.tenants.write(made.tenant, lambda book, write: create(book, others, write))
    first = await made.start()
    assert (first.state, first.author, first.events[0].text) == ("running", "ann", "started, from v1")
    with pytest.raises(RolloutRunning, match=f"{first.id} is running"):
        await made.start()
    monkeypatch.setattr(module, "ACTIVE_LIMIT", 2)
    await made.start(Order("details", ("v2",)))
    with pytest.raises(TooManyRollouts):
        await made.start(Order("ratings", ("v2",)))
    monkeypatch.setattr(module, "ACTIVE_LIMIT", 9)
    with pytest.raises(NoDefaultVersion):
        await made.start(Order("nobody", ("v2",)))


async def test_what_can_be_said_depends_on_its_state() -> None:
    made = await world()
    identity = (await made.start()).id
    say = made.rollouts
    with pytest.raises(RolloutRunning, match="is running: it cannot be resumed"):
        await say.resume(made.tenant, identity)
    assert (await say.pause(made.tenant, identity)).state == "paused"
    with pytest.raises(RolloutRunning, match="is paused: it cannot be paused"):
        await say.pause(made.tenant, identity)
    assert (await say.resume(made.tenant, identity)).state == "running"
    assert (await say.abort(made.tenant, identity)).state == "returning"
    assert (await say.abort(made.tenant, identity)).state == "returning"
    assert (await made.ended()).state == "aborted"
    with pytest.raises(RolloutRunning, match="is aborted: it cannot be aborted"):
        await say.abort(made.tenant, identity)
    with pytest.raises(RolloutNotFound):
        await say.pause(made.tenant, "nothing")
    assert (await made.start()).id != identity


class Shared(MemoryRollouts):
    """A store of which one holder leads."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = ""

    async def lead(self, holder: str, seconds: float) -> bool:  # noqa: ARG002 - the test says for how long
        self.leader = self.leader or holder
        return holder == self.leader


async def test_one_of_two_controllers_drives() -> None:
    store = MemoryStore()
    store.rollouts = Shared()
    made = await world(store)
    await made.start()
    beside = Rollouts(made.tenants, store.rollouts, made.clock)
    await made.rollouts.look()
    edition, revision = (await made.rollout()).edition, made.tenant.mirror.book.revision
    assert await beside.look()
    assert not beside._drivers
    assert ((await made.rollout()).edition, made.tenant.mirror.book.revision) == (edition, revision)
    # The other one can be told, and the one that drives hears of it.
    await beside.abort(made.tenant, (await made.rollout()).id)
    assert (await made.ended()).state == "aborted"


async def test_a_successor_goes_on() -> None:
    store = MemoryStore()
    store.rollouts = shared = Shared()
    made = await world(store)
    await made.start()
    await made.run(100, until=lambda one: one.step == 1)
    made.rollouts = Rollouts(made.tenants, shared, made.clock)
    await made.run(5)
    assert (await made.rollout()).step == 1
    shared.leader = ""
    assert (await made.ended()).state == "done"


async def test_of_two_that_began_at_once_the_older_stays() -> None:
    made = await world()
    first = await made.start()
    second = msgspec.structs.replace(first, id="second", edition=1, created="2999-01-01T00:00:00Z")
    await made.store.rollouts.put("default", second)
    await made.run(3)
    states = {one.id: one.state for one in await made.rollouts.all(made.tenant)}
    assert states == {first.id: "running", "second": "aborted"}
    await made.ended()
    assert (await made.rollouts.find(made.tenant, first.id)).active
    assert made.split()["v2"] > 0


async def test_a_store_that_fails_is_tried_again() -> None:
    class Failing(MemoryRollouts):
        failing = False

        async def put(self, tenant: str, rollout: Rollout) -> None:
            if self.failing:
                raise StoreUnavailable("no disk")
            await super().put(tenant, rollout)

    store = MemoryStore()
    store.rollouts = failing = Failing()
    made = await world(store)
    await made.start()
    failing.failing = True
    await made.run(2 * ORDER.interval + 5)
    assert (await made.rollout()).step == 0
    failing.failing = False
    assert (await made.ended()).state == "done"
