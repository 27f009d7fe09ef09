from amalgam8.registry.lease import Lease
from amalgam8.registry.query import InstanceQuery
from amalgam8.registry.view import ANSWERS_KEPT, View
from amalgam8.web.exchange import Answer
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
    shown = changes[0].shown()
    assert shown is not None
    assert shown.last_heartbeat


async def test_what_is_kept_on_a_shelf_goes_as_a_lease_is_touched() -> None:
    view, other = View(), View()
    a, b = lease("a", 1), lease("a", 2)
    for one in (a, b):
        view.put(one)
    other.put(a)
    shelves = [view.shelf("a"), other.shelf("a")]
    assert view.shelf("b") is None

    def fill() -> None:
        for shelf in shelves:
            assert shelf is not None
            shelf.keep("question", Answer())

    def kept() -> list[int]:
        return [len(shelf.kept) for shelf in shelves if shelf is not None]

    fill()
    a.renew(1, 1)
    assert kept() == [0, 0], "it stands in both"
    fill()
    b.renew(1, 1)
    assert kept() == [0, 1]
    fill()
    b.replace(b.instance)
    assert kept() == [0, 1]
    fill()
    view.drop(b)
    assert kept() == [0, 1]
    fill()
    other.drop(a)
    a.renew(2, 2)
    assert kept() == [0, 0]
    fill()
    b.renew(2, 2)
    assert kept() == [1, 1], "it has left"


async def test_answers_that_are_kept_are_few() -> None:
    view = View()
    view.put(lease("a", 1))
    shelf = view.shelf("a")
    assert shelf is not None
    for number in range(10 * ANSWERS_KEPT):
        answer = Answer()
        assert shelf.keep(number, answer) is answer
        assert len(shelf.kept) <= ANSWERS_KEPT
