"""A service becomes one line, the same for equal input, or is refused with a sentence."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from amalgam8.model.instance import Address
from amalgam8.routing.condition import Condition
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.render import Unrenderable, host_names, line, unavailable
from tests.sidecar.envoy.test_render import CASES, Case
from tests.sidecar.envoy.test_render import GOLDENS as INPUTS

GOLDENS = Path(__file__).parent / "goldens"
TARGET = Target("reviews")


def service(host: str, *routes: Route) -> ServiceRouting:
    peers: dict[Target, tuple[Peer, ...]] = {TARGET: (Peer("one", Address(host, 80), ("v1",)),)}
    return ServiceRouting("reviews", (*routes, Route((Slice(TARGET, timeout=2, retries=1),))), peers=peers)


@pytest.mark.parametrize("name", CASES)
def test_goldens(name: str, rewrite_goldens: bool) -> None:
    case = msgspec.convert(yaml.safe_load((INPUTS / f"{name}.in.yaml").read_text()), Case)
    found = b"".join(
        msgspec.json.format(line(service, {}).strip(), indent=1) + b"\n"
        for _, service in sorted(case.routing().items())
    )
    path = GOLDENS / f"{name}.nginx.json"
    if rewrite_goldens:
        path.write_bytes(found)
    assert path.read_bytes() == found


def test_a_line_has_targets_and_routes() -> None:
    found = json.loads(line(service("::1"), {}))
    assert found["targets"][0]["peers"] == [{"id": "one", "port": 80, "tags": ["v1"], "address": "[::1]"}]
    assert found["routes"] == [{"slices": [{"target": 1, "weight": 100_000_000, "timeout": 2, "retries": 1}]}]
    assert line(service("::1"), {}).count(b"\n") == 1
    assert line(service("::1"), {}) == line(service("::1"), {})


def test_host_names_come_resolved_or_not_at_all() -> None:
    named = service("reviews.example")
    assert host_names(named) == {"reviews.example"}
    assert json.loads(line(named, {}))["targets"][0]["peers"] == []
    peers = json.loads(line(named, {"reviews.example": ("10.0.0.1", "10.0.0.2")}))["targets"][0]["peers"]
    assert [(peer["address"], peer["host"]) for peer in peers] == [("10.0.0.1", "reviews.example")]


def test_a_pattern_that_cannot_be_said_is_refused() -> None:
    with pytest.raises(Unrenderable, match="RE2 refuses"):
        line(service("::1", Route((Slice(TARGET),), Condition((("x", "("),)))), {})


def test_what_stands_for_a_service_that_cannot_be() -> None:
    assert json.loads(unavailable("a b"))["key"] == "a%20b"
