import msgspec
import pytest

from amalgam8.model.instance import Instance
from amalgam8.registry.redis_mirror import Entry, Mirror, Snapshot, entry_of_reply, entry_of_stream
from amalgam8.registry.store import Happened, What
from amalgam8.runtime.feed import Gap
from tests.contracts.registry_store import instance

AT = 1_900_000_000_000_000


def put(revision: int, one: Instance, what: What = "registered") -> Entry:
    return Entry(revision, what, one.id, AT + revision, msgspec.json.encode(one))


def gone(revision: int, one: Instance) -> Entry:
    return Entry(revision, "expired", one.id, AT + revision, b"")


def snapshot(revision: int, *instances: Instance) -> Snapshot:
    bodies = {one.id: msgspec.json.encode(one) for one in instances}
    return Snapshot(revision, AT + revision, bodies, dict.fromkeys(bodies, AT))


def mirror() -> tuple[Mirror, list[Happened]]:
    happened: list[Happened] = []
    return Mirror("t", happened.append), happened


async def test_each_entry_counts_once_and_in_order() -> None:
    one, happened = mirror()
    entries = [
        put(1, instance(port=1)),
        put(2, instance(port=2)),
        put(3, instance(port=1, tags=("v2",)), "changed"),
        gone(4, instance(port=2)),
    ]
    assert not one.apply(entries[1])
    for entry in (*entries[:3], *entries):
        assert one.apply(entry)
    assert [lease.instance for lease in one.view] == [instance(port=1, tags=("v2",))]
    assert [event.what for event in happened] == ["registered", "registered", "changed", "expired"]
    assert (one.seen, one.stamp) == (4, AT + 4)


async def test_the_end_of_what_it_does_not_know_asks_for_a_snapshot() -> None:
    one, happened = mirror()
    assert not one.apply(gone(1, instance()))
    assert one.seen == 0
    assert happened == []


async def test_a_snapshot_fills_a_gap_and_tells_the_difference() -> None:
    one, happened = mirror()
    one.replace(snapshot(2, instance(port=1), instance(port=2)), quiet=True)
    assert happened == []
    feed = one.view.feed
    one.replace(snapshot(9, instance(port=2, tags=("v2",)), instance(port=3)))
    assert {(event.what, event.id) for event in happened} == {
        ("removed", instance(port=1).id),
        ("changed", instance(port=2).id),
        ("registered", instance(port=3).id),
    }
    assert one.view.feed is feed
    with pytest.raises(Gap):
        feed.since(2)
    assert feed.since(9) == (9, [])
    assert one.apply(put(10, instance(port=4)))


async def test_a_snapshot_that_is_older_is_of_no_use() -> None:
    one, _ = mirror()
    one.replace(snapshot(1, instance(port=1)))
    one.apply(put(2, instance(port=2)))
    one.replace(snapshot(1, instance(port=1)))
    assert len(one.view) == 2


async def test_another_epoch_is_another_view_and_ends_the_streams() -> None:
    one, happened = mirror()
    one.replace(snapshot(5, instance(port=1), instance(port=2)), quiet=True)
    before = one.view
    one.replace(snapshot(5, instance(port=1)), anew=True)
    assert one.view is not before
    assert [lease.instance.id for lease in one.view] == [instance(port=1).id]
    assert [event.what for event in happened] == ["removed"]
    with pytest.raises(ConnectionResetError):
        before.feed.since(5)
    with pytest.raises(ConnectionResetError):
        await before.feed.newer(5)
    assert one.seen == 5


async def test_a_renewal_never_goes_back() -> None:
    one, happened = mirror()
    one.apply(put(1, instance()))
    one.renewed(instance().id, AT + 9)
    one.renewed(instance().id, AT + 5)
    one.renewed("unknown", AT + 5)
    lease = one.view.get(instance().id)
    assert lease is not None
    assert lease.heard == pytest.approx((AT + 9) / 1e6, abs=1e-6)
    assert len(happened) == 1


def test_what_others_wrote_is_no_entry() -> None:
    fields = {b"what": b"registered", b"id": b"a", b"heard": b"1", b"body": b"{}"}
    assert entry_of_stream(b"7-0", fields) == Entry(7, "registered", "a", 1, b"{}")
    with pytest.raises(ValueError, match="7-0"):
        entry_of_stream(b"7-0", {b"x": b"y"})
    with pytest.raises(ValueError, match="sold"):
        entry_of_reply([b"7", b"sold", b"a", b"1", b""])
