from amalgam8.registry.lease import Lease
from amalgam8.registry.query import InstanceQuery
from amalgam8.registry.view import View
from tests.contracts.registry_store import instance


def lease(service: str, port: int, status: str = "UP") -> Lease:
    return Lease("t", instance(service, port, status=status), 0, 1_900_000_000)


async def test_leases_are_found_by_id_and_service() -> None:
    view = View()
    a, b, c = lease("a", 1), lease("a", 2, "STARTING"), lease("b", 3)
    for one in (a, b, c):
        view.put(one)
    assert list(view.of_service("a")) == [a, b]
    assert list(view.of_service("nope")) == []
    assert list(view.select(InstanceQuery())) == [a, c]
    assert list(view.select(InstanceQuery(service_name="a"))) == [a, b]
    assert list(view.select(InstanceQuery(id=c.instance.id))) == [c]
    assert list(view.select(InstanceQuery(id="nope"))) == []
    assert list(view.select(InstanceQuery(id=c.instance.id, service_name="a"))) == []


async def test_the_last_instance_takes_its_service_along() -> None:
    view = View()
    a, b = lease("a", 1), lease("a", 2)
    view.put(a)
    view.put(b)
    view.drop(a)
    assert list(view.services()) == ["a"]
    view.drop(b)
    assert list(view.services()) == []
    assert len(view) == 0


async def test_each_change_is_a_revision_of_its_own() -> None:
    view = View()
    a = lease("a", 1)
    view.put(a)
    a.replace(instance("a", 1, tags=("v2",)))
    view.put(a)
    view.drop(a)
    assert view.feed.revision == 3
    await view.feed.newer(2)
    _, changes = view.feed.since(0)
    assert [change.instance and change.instance.tags for change in changes] == [(), ("v2",), None]
    assert changes[0].instance is not None
    assert changes[0].instance.last_heartbeat
