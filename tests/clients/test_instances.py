"""What the instances stream told, as scripts in virtual time."""

from hypothesis import given
from hypothesis import strategies as st

from amalgam8.clients.instances import InstanceView
from amalgam8.model.instance import Instance
from amalgam8.model.stream import Hello, InstanceDelta, InstanceSnapshot
from tests.wire import instance

ONE = instance("reviews", 1, "v1")
TWO = instance("reviews", 2, "v2")
OTHER = instance("ratings", 3, ttl=30)


def hello(view: InstanceView, epoch: str, now: float) -> None:
    view.hello(Hello(epoch, 1, 1), now)


def names(view: InstanceView) -> dict[str, set[str]]:
    assert view.seen
    return {service: {one.endpoint.value for one in group} for service, group in view.seen.groups.items()}


def started(*known: Instance) -> InstanceView:
    view = InstanceView()
    hello(view, "a", 0.0)
    view.snapshot(InstanceSnapshot(1, known))
    return view


def test_nothing_is_seen_before_the_first_snapshot() -> None:
    view = InstanceView()
    hello(view, "a", 0.0)
    assert view.seen is None


def test_an_empty_snapshot_is_seen_as_empty() -> None:
    view = started()
    assert view.seen
    assert view.seen.groups == {}
    assert (view.seen.stamp.epoch, view.seen.stamp.revision) == ("a", 1)


def test_instances_are_grouped_and_sorted() -> None:
    view = started(OTHER, TWO, ONE)
    assert view.seen
    assert set(view.seen.groups) == {"ratings", "reviews"}
    assert list(view.seen.groups["reviews"]) == sorted((ONE, TWO), key=lambda one: one.id)


def test_only_instances_that_are_up_take_calls() -> None:
    view = started(instance("reviews", 1, status="STARTING"), instance("reviews", 2))
    assert names(view) == {"reviews": {"127.0.0.1:2"}}
    assert len(view.known) == 2
    view.delta(InstanceDelta(2, (instance("reviews", 1), instance("reviews", 2, status="OUT_OF_SERVICE"))))
    assert names(view) == {"reviews": {"127.0.0.1:1"}}


def test_a_delta_leaves_other_groups_as_they_are() -> None:
    view = started(ONE, OTHER)
    before = view.seen
    assert before
    view.delta(InstanceDelta(2, (TWO,)))
    assert view.seen
    assert view.seen.groups["ratings"] is before.groups["ratings"]
    assert names(view)["reviews"] == {"127.0.0.1:1", "127.0.0.1:2"}
    assert view.seen.stamp.revision == 2
    assert before.groups["reviews"] == (ONE,)  # what was handed out does not change


def test_the_last_instance_takes_its_service_along() -> None:
    view = started(ONE, OTHER)
    view.delta(InstanceDelta(2, removed=(ONE.id, "unknown")))
    assert names(view) == {"ratings": {"127.0.0.1:3"}}


def test_an_instance_may_change_its_service_tags_and_place() -> None:
    view = started(Instance("x", "a", ONE.endpoint, 60, "UP"), OTHER)
    view.delta(InstanceDelta(2, (Instance("x", "b", TWO.endpoint, 60, "UP"),)))
    assert names(view) == {"b": {"127.0.0.1:2"}, "ratings": {"127.0.0.1:3"}}


def test_a_heartbeat_alone_changes_no_group() -> None:
    view = started(ONE)
    assert view.seen
    before = view.seen.groups
    later = Instance(ONE.id, ONE.service_name, ONE.endpoint, 60, "UP", last_heartbeat="now", tags=ONE.tags)
    view.delta(InstanceDelta(2, (later,)))
    assert view.seen.groups is before
    assert view.known == [later]


def test_a_lost_stream_changes_nothing() -> None:
    view = started(ONE, TWO)
    before = view.seen
    view.lost()
    assert not view.expire(10_000.0)
    assert view.seen is before


def test_a_snapshot_of_the_same_epoch_replaces_all() -> None:
    view = started(ONE, OTHER)
    view.lost()
    hello(view, "a", 5.0)
    view.snapshot(InstanceSnapshot(9, (TWO,)))
    assert names(view) == {"reviews": {"127.0.0.1:2"}}


def test_a_new_epoch_takes_nothing_away_until_the_lease_time_has_passed() -> None:
    view = started(ONE, OTHER)
    view.lost()
    hello(view, "b", 100.0)
    assert view.seen
    assert view.seen.stamp.epoch == "a"  # nothing of the new epoch is known yet
    view.snapshot(InstanceSnapshot(1, ()))
    assert names(view) == {"reviews": {"127.0.0.1:1"}, "ratings": {"127.0.0.1:3"}}
    assert view.next_expiry == 130.0
    assert view.held == 2
    assert not view.expire(129.9)
    assert view.expire(130.0)
    assert names(view) == {"reviews": {"127.0.0.1:1"}}
    assert view.expire(160.0)
    assert names(view) == {}
    assert view.next_expiry is None


def test_whoever_registers_again_is_held_no_longer() -> None:
    view = started(ONE, OTHER)
    hello(view, "b", 100.0)
    view.snapshot(InstanceSnapshot(1, (OTHER,)))
    view.delta(InstanceDelta(2, (ONE,)))
    assert view.held == 0
    assert not view.expire(1000.0)
    view.delta(InstanceDelta(3, removed=(ONE.id,)))
    assert names(view) == {"ratings": {"127.0.0.1:3"}}


def test_a_second_snapshot_of_the_new_epoch_keeps_what_is_held() -> None:
    view = started(ONE)
    hello(view, "b", 100.0)
    view.snapshot(InstanceSnapshot(1, (OTHER,)))
    view.snapshot(InstanceSnapshot(2, ()))
    assert names(view) == {"reviews": {"127.0.0.1:1"}}


def test_lease_time_passes_only_while_there_is_a_registry_to_register_with() -> None:
    view = started(ONE)
    hello(view, "b", 100.0)
    view.snapshot(InstanceSnapshot(1, ()))
    view.lost()
    assert not view.expire(10_000.0)
    hello(view, "b", 10_000.0)
    assert view.next_expiry == 10_060.0
    view.lost()
    hello(view, "c", 20_000.0)
    assert view.next_expiry == 20_060.0
    view.snapshot(InstanceSnapshot(1, ()))
    assert names(view) == {"reviews": {"127.0.0.1:1"}}


def test_an_instance_without_a_lease_is_held_for_a_minute() -> None:
    view = started(instance("reviews", 1, ttl=0))
    hello(view, "b", 100.0)
    assert view.next_expiry == 160.0


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.booleans())), max_size=8))
def test_deltas_lead_where_a_snapshot_leads(script: list[list[tuple[str, int, bool]]]) -> None:
    view, truth = started(), dict[str, Instance]()
    for revision, step in enumerate(script, 2):
        before = dict(truth)
        for service, port, there in step:
            one = instance(service, port)
            if there:
                truth[one.id] = one
            else:
                truth.pop(one.id, None)
        gone = tuple(identity for identity in before if identity not in truth)
        view.delta(InstanceDelta(revision, tuple(truth.values()), gone))
    whole = started(*truth.values())
    assert whole.seen
    assert view.seen
    assert view.seen.groups == whole.seen.groups
