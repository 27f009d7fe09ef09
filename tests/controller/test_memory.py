"""The store that forgets; what it has in common with others stands in tests/contracts."""

from amalgam8.controller import rulebook
from amalgam8.controller.memory import MemoryStore
from tests.controller.rules import route, write


async def test_each_has_an_epoch_and_a_memory_of_its_own() -> None:
    one, other = MemoryStore(), MemoryStore()
    assert one.epoch != other.epoch
    mirror = await one.load("default")
    await one.append("default", 0, rulebook.create(mirror.book, [route("a")], write()))
    assert list(other.tenants()) == []
    await one.close()
    assert list(one.tenants()) == []
