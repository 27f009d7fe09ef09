"""The order of rollouts. What every store of them keeps to stands in ``tests/contracts``."""

from amalgam8.controller.rollout_store import newest_first
from tests.contracts.test_rollout_store import rollout


def test_the_newest_first_and_then_by_id() -> None:
    made = [rollout("a", "2030-01-01"), rollout("b", "2031-01-01"), rollout("c", "2030-01-01")]
    assert [one.id for one in newest_first(made)] == ["b", "c", "a"]
