"""The Plan's nouns: conditions, encodings, hashes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.routing.plan import (
    ALWAYS,
    Condition,
    DestinationPlan,
    FaultEntry,
    PlanAbort,
    PlanBackend,
    PlanDelay,
    RouteEntry,
    encode_part,
    part_hash,
    plan_hash,
)

patterns = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))
conditions = st.frozensets(patterns, max_size=4).map(lambda found: Condition(tuple(sorted(found))))

PART = DestinationPlan(
    routes=(
        RouteEntry(
            "r", (PlanBackend("d", ("v1",), 3), PlanBackend("d", ("v2",))), Condition((("c", "x"),)), 9.5
        ),
    ),
    faults=(FaultEntry("f", delays=(PlanDelay(7.0, 0.5, ("v1",)),), aborts=(PlanAbort(503),)),),
)


@given(conditions, conditions)
def test_both_is_the_stronger(one: Condition, other: Condition) -> None:
    both = one.both(other)
    assert both == other.both(one)
    assert both.implies(one)
    assert both.implies(other)
    assert one.implies(ALWAYS)
    assert one.implies(other) == (both == one)


def test_a_part_survives_the_wire() -> None:
    assert msgspec.json.decode(encode_part(PART), type=DestinationPlan) == PART


def test_a_part_is_small() -> None:
    assert encode_part(PART) == (
        b'{"routes":[{"rule":"r","backends":[{"service":"d","tags":["v1"],"weight":3},'
        b'{"service":"d","tags":["v2"]}],"match":{"headers":[["c","x"]]},"expires":9.5}],'
        b'"faults":[{"rule":"f","delays":[{"seconds":7.0,"probability":0.5,"tags":["v1"]}],'
        b'"aborts":[{"status":503}]}]}'
    )


def test_hashes_name_contents() -> None:
    assert part_hash(b"a") != part_hash(b"b")
    assert plan_hash({"a": "1", "b": "2"}) == plan_hash({"b": "2", "a": "1"})
    assert (
        len({plan_hash(parts) for parts in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"})})
        == 5
    )
