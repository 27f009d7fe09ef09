"""A service becomes one line, the same for equal input, or is refused with a sentence."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from amalgam8.model.instance import Address
from amalgam8.routing.condition import Condition
from amalgam8.routing.resolve import Peer, Route, ServiceRouting, Slice, Target
from amalgam8.sidecar.nginx.render import Unrenderable, believable, line, unavailable
from amalgam8.sidecar.trust import Trust
from tests.sidecar.envoy.test_render import CASES, Case
from tests.sidecar.envoy.test_render import GOLDENS as INPUTS

GOLDENS = Path(__file__).parent / "goldens"
TARGET = Target("reviews")


def service(host: str, *routes: Route, places: tuple[str, ...] = ()) -> ServiceRouting:
    peers: dict[Target, tuple[Peer, ...]] = {TARGET: (Peer("one", Address(host, 80), ("v1",), places),)}
    return ServiceRouting("reviews", (*routes, Route((Slice(TARGET, timeout=2, retries=1),))), peers=peers)


@pytest.mark.parametrize("name", CASES)
def test_goldens(name: str, rewrite_goldens: bool) -> None:
    case = msgspec.convert(yaml.safe_load((INPUTS / f"{name}.in.yaml").read_text()), Case)
    found = b"".join(
        msgspec.json.format(line(service).strip(), indent=1) + b"\n"
        for _, service in sorted(case.routing().items())
    )
    path = GOLDENS / f"{name}.nginx.json"
    if rewrite_goldens:
        path.write_bytes(found)
    assert path.read_bytes() == found


def test_a_line_has_targets_and_routes() -> None:
    found = json.loads(line(service("::1")))
    assert found["targets"][0]["peers"] == [{"id": "one", "port": 80, "tags": ["v1"], "address": "[::1]"}]
    assert found["routes"] == [{"slices": [{"target": 1, "weight": 100_000_000, "timeout": 2, "retries": 1}]}]
    assert line(service("::1")).count(b"\n") == 1
    assert line(service("::1")) == line(service("::1"))


def test_an_instance_with_a_host_name_is_one_peer_whatever_its_name_stands_for() -> None:
    assert json.loads(line(service("reviews.example")))["targets"][0]["peers"] == []
    peers = json.loads(line(service("reviews.example", places=("10.0.0.1", "::2"))))["targets"][0]["peers"]
    assert peers == [
        {
            "id": "one",
            "port": 80,
            "tags": ["v1"],
            "address": "10.0.0.1",
            "host": "reviews.example",
            "others": ["[::2]"],
        }
    ]


def test_a_pattern_that_cannot_be_said_is_refused() -> None:
    with pytest.raises(Unrenderable, match="RE2 refuses"):
        line(service("::1", Route((Slice(TARGET),), Condition((("x", "("),)))))


def test_https_needs_somebody_who_vouches() -> None:
    target = Target("svc")
    secure = ServiceRouting(
        "svc", (Route((Slice(target),)),), peers={target: (Peer("one", Address("10.0.0.1", 443, True)),)}
    )
    with pytest.raises(Unrenderable, match="set proxy_ca_cert_file; instance one gets no calls"):
        believable(secure, Trust())
    believable(secure, Trust("authorities.pem"))
    believable(secure, Trust(verify=False))
    believable(service("10.0.0.1"), Trust())


def test_what_stands_for_a_service_that_cannot_be() -> None:
    assert json.loads(unavailable("a b"))["key"] == "a%20b"
