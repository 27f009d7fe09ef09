"""What the stream of the Plan told."""

from amalgam8.routing.plan import DestinationPlan, FaultEntry, PlanDelay, PlanDelta, PlanSnapshot
from amalgam8.sidecar.view import PlanView

SLOW = DestinationPlan(faults=(FaultEntry(rule="r1", delays=(PlanDelay(1.0),)),))
SLOWER = DestinationPlan(faults=(FaultEntry(rule="r1", delays=(PlanDelay(2.0),)),))


def test_a_plan_is_replaced_by_a_snapshot_and_keeps_equal_parts() -> None:
    view = PlanView()
    view.snapshot(PlanSnapshot(3, "h3", {"a": SLOW, "b": SLOW}))
    again = DestinationPlan(faults=(FaultEntry(rule="r1", delays=(PlanDelay(1.0),)),))
    view.snapshot(PlanSnapshot(1, "h1", {"a": again, "c": SLOWER}))
    assert view.seen
    assert view.seen.parts == {"a": SLOW, "c": SLOWER}
    assert view.seen.parts["a"] is SLOW
    assert (view.seen.stamp.revision, view.seen.stamp.hash) == (1, "h1")


def test_a_plan_takes_deltas() -> None:
    view = PlanView()
    view.snapshot(PlanSnapshot(3, "h3", {"a": SLOW, "b": SLOW}))
    before = view.seen
    view.delta(PlanDelta(4, "h4", {"b": SLOWER}, ("a", "never")))
    assert view.seen
    assert view.seen.parts == {"b": SLOWER}
    assert before
    assert set(before.parts) == {"a", "b"}
