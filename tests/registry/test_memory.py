from amalgam8.registry.memory import MemoryStore
from tests.contracts.registry_store import instance
from tests.registry.kit import JUST_NOW, MemoryKit


async def test_each_process_is_an_epoch_of_its_own() -> None:
    assert MemoryStore().epoch != MemoryStore().epoch


async def test_a_jump_of_the_wall_clock_ends_no_lease() -> None:
    now, wall = 0.0, JUST_NOW
    store = MemoryStore(clock=lambda: now, wall=lambda: wall)
    await store.register("t", instance(ttl=30))
    wall += 7 * 86400
    now += 1
    assert await store.expire() == 0
    await store.renew("t", instance().id)
    lease = store.view("t").get(instance().id)
    assert lease is not None
    assert lease.shown().last_heartbeat == "2030-03-24T17:46:40.000000Z"


async def test_coming_and_going_leaves_nothing_behind() -> None:
    kit = MemoryKit()
    store = kit.make()
    for port in range(1, 5001):
        await store.register("t", instance(f"s{port}", port, ttl=600))
        await store.remove("t", instance(f"s{port}", port).id)
    assert len(store.view("t")) == 0
    assert len(store._queue) == 0
    assert not store.view("t").services()
