from hypothesis import given
from hypothesis import strategies as st

from amalgam8.registry.lease import NEVER, STRETCH, LapseQueue, Lease, rfc3339
from tests.contracts.registry_store import instance


def lease(ttl: int = 30, at: float = 0.0, status: str = "UP", port: int = 1) -> Lease:
    return Lease("t", instance(port=port, ttl=ttl, status=status), at, 1_900_000_000.25 + at)


def test_time_is_shown_as_rfc_3339() -> None:
    assert rfc3339(1_900_000_000.25) == "2030-03-17T17:46:40.250000Z"
    assert rfc3339(1_900_000_000) == "2030-03-17T17:46:40.000000Z"


def test_json_follows_renewals_and_changes() -> None:
    one = lease()
    assert one.json() is one.json()
    assert b'"last_heartbeat":"2030-03-17T17:46:40.250000Z"' in one.json()
    one.renew(5, 1_900_000_005.25)
    assert b'"last_heartbeat":"2030-03-17T17:46:45.250000Z"' in one.json()
    one.replace(instance(port=1, tags=("v2",)))
    assert b'"tags":["v2"]' in one.json()


def test_out_of_service_lapses_never() -> None:
    assert lease(status="OUT_OF_SERVICE").lapses == NEVER
    assert lease(at=5).lapses == 35


def test_looking_at_nothing_due_touches_nothing() -> None:
    queue = LapseQueue()
    leases = [lease(ttl=10 + port, port=port) for port in range(1000)]
    for one in leases:
        queue.put(one)
    for one in leases:
        one.renew(6, 0)
    held = [one.queued for one in leases]
    assert list(queue.lapsed(6.5)) == []
    assert [one.queued for one in leases] == held


steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "renew", "drop", "short", "long", "rest", "wait", "moment"]),
        st.integers(0, 5),
        st.integers(1, 40),
    ),
    max_size=80,
)


@given(steps)
def test_exactly_the_lapsed_come_out_whatever_came_before(script: list[tuple[str, int, int]]) -> None:
    queue, now = LapseQueue(), 0.0
    live: dict[int, Lease] = {}
    for what, port, number in script:
        one = live.get(port)
        if what in ("wait", "moment"):
            now += number if what == "wait" else number * STRETCH / 7
            due = {key for key, held in live.items() if now > held.lapses}
            lapsed = list(queue.lapsed(now))
            assert {one.instance.id for one in lapsed} == {live[key].instance.id for key in due}
            assert len(lapsed) == len(due)
            for key in due:
                queue.drop(live.pop(key))
        elif what == "put" and one is None:
            live[port] = lease(ttl=number, at=now, port=port)
            queue.put(live[port])
        elif one is not None and what == "renew":
            one.renew(now, now)
        elif one is not None and what == "drop":
            queue.drop(live.pop(port))
        elif one is not None and what in ("short", "long", "rest"):
            status = "OUT_OF_SERVICE" if what == "rest" else "UP"
            one.renew(now, now)
            one.replace(instance(port=port, ttl=number if what == "short" else number + 40, status=status))
            queue.put(one)
        assert len(queue) <= len(live)


def test_who_is_late_is_counted_for_each_tenant() -> None:
    queue = LapseQueue()
    leases = [lease(port=port) for port in range(10)]
    other = Lease("other", instance(port=99), 0.0, 0.0)
    for one in (*leases, other):
        queue.put(one)
    assert queue.lapsed(20.0) == []
    assert queue.late("t") == 0
    assert queue.lapsed(20.1) == []
    assert (queue.late("t"), queue.late("other"), queue.late("nobody")) == (10, 1, 0)
    leases[0].renew(20.1, 0)
    queue.on_time(leases[0])
    queue.on_time(leases[1])
    queue.on_time(leases[1])
    assert queue.late("t") == 8
