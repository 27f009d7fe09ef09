"""The Plan's nouns: encodings and hashes."""

import msgspec
import pytest

from amalgam8.routing.condition import Condition
from amalgam8.routing.plan import (
    AccessEntry,
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

PART = DestinationPlan(
    routes=(
        RouteEntry(
            rule="r",
            backends=(PlanBackend("d", ("v1",), 3), PlanBackend("d", ("v2",))),
            match=Condition((("c", "x"),)),
            expires=9.5,
        ),
    ),
    faults=(FaultEntry(rule="f", delays=(PlanDelay(7.0, 0.5, ("v1",)),), aborts=(PlanAbort(503),)),),
)


def test_a_part_survives_the_wire() -> None:
    assert msgspec.json.decode(encode_part(PART), type=DestinationPlan) == PART


@pytest.mark.parametrize(
    "missing", [b'{"routes":[{"rule":"r"}]}', b'{"access":[{"rule":"r","verdict":"maybe"}]}']
)
def test_a_part_that_says_too_little_is_refused(missing: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(missing, type=DestinationPlan)


def test_an_entry_always_applies_unless_it_says_otherwise() -> None:
    encoded = msgspec.json.encode(AccessEntry(rule="r", verdict="deny"))
    assert encoded == b'{"rule":"r","verdict":"deny"}'


def test_a_part_is_small() -> None:
    assert encode_part(PART) == (
        b'{"routes":[{"rule":"r","match":{"headers":[["c","x"]]},"expires":9.5,'
        b'"backends":[{"service":"d","tags":["v1"],"weight":3},{"service":"d","tags":["v2"]}]}],'
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
