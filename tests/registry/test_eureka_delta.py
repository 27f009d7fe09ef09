from amalgam8.model.instance import Endpoint, Instance
from amalgam8.registry.eureka_delta import RETENTION, Ring
from amalgam8.registry.view import Change


def one(identity: str) -> Instance:
    return Instance(identity, "s", Endpoint("tcp", "h:1"))


def put(identity: str, *, new: bool = False) -> Change:
    return Change("s", identity, one(identity), new=new)


def gone(identity: str) -> Change:
    return Change("s", identity, None, last=one(identity))


def seen(ring: Ring, now: float) -> list[tuple[str, str]]:
    return [(recent.id, recent.action) for recent in ring.recent(now)]


def test_of_each_the_last_change_in_order() -> None:
    ring = Ring()
    for at, change in enumerate((put("a", new=True), put("b", new=True), put("a"), gone("b"), put("c"))):
        ring.hear(change, float(at))
    assert seen(ring, 4.0) == [("a", "MODIFIED"), ("b", "DELETED"), ("c", "MODIFIED")]
    assert [recent.last for recent in ring.recent(4.0)] == [None, one("b"), None]
    assert ring.complete(4.0)


def test_what_is_old_is_forgotten_and_nothing_is_missing() -> None:
    ring = Ring()
    ring.hear(put("a"), 0.0)
    ring.hear(put("b"), 100.0)
    assert seen(ring, RETENTION) == [("a", "MODIFIED"), ("b", "MODIFIED")]
    assert seen(ring, RETENTION + 1) == [("b", "MODIFIED")]
    assert ring.complete(RETENTION + 1)


def test_more_than_it_holds_makes_it_incomplete_for_a_while() -> None:
    ring = Ring(length=2)
    for at, identity in enumerate("abc"):
        ring.hear(put(identity), float(at))
    assert seen(ring, 3.0) == [("b", "MODIFIED"), ("c", "MODIFIED")]
    assert not ring.complete(3.0)
    assert ring.complete(RETENTION + 1)


def test_a_log_that_was_forgotten_makes_it_incomplete_for_a_while() -> None:
    ring = Ring()
    ring.hear(put("a"), 0.0)
    ring.hear(None, 5.0)
    assert seen(ring, 6.0) == []
    assert not ring.complete(RETENTION + 5)
    assert ring.complete(RETENTION + 6)
