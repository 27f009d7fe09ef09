"""What may be shown to sidecars, and what may be registered; limits are inclusive."""

import msgspec
import pytest

from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Endpoint, Instance
from amalgam8.model.instance_check import (
    ENDPOINT_LIMIT,
    METADATA_LIMIT,
    TAG_LIMIT,
    TAGS_LIMIT,
    check_instance,
    check_registration,
)

GOOD = Instance("i", "reviews", Endpoint("http", "10.0.0.1:9080"), status="UP", tags=("v1",))


def changed(**members: object) -> Instance:
    return msgspec.structs.replace(GOOD, **members)


@pytest.mark.parametrize(
    "one",
    [
        GOOD,
        changed(service_name="x" * 64),
        changed(endpoint=Endpoint("user", "é" * (ENDPOINT_LIMIT // 2))),
        changed(tags=("x" * TAG_LIMIT,) * TAGS_LIMIT),
        changed(metadata=msgspec.Raw(b"1" * METADATA_LIMIT)),
        changed(tags=("a b,c=/",)),
    ],
)
def test_what_is_taken(one: Instance) -> None:
    check_instance(one)
    check_registration(one)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"service_name": ""}, "service_name is missing"),
        ({"service_name": "x" * 65}, "service_name is longer"),
        ({"service_name": "a/b"}, "service_name holds"),
        ({"endpoint": Endpoint()}, "must both be given"),
        ({"endpoint": Endpoint("http", "")}, "must both be given"),
        ({"endpoint": Endpoint("HTTP", "a:1")}, "endpoint.type must be one of"),
        ({"endpoint": Endpoint("http", "x" * (ENDPOINT_LIMIT + 1))}, "endpoint.value is longer"),
        ({"endpoint": Endpoint("http", "a\n:1")}, "endpoint.value holds a control"),
        ({"tags": ("x",) * (TAGS_LIMIT + 1)}, "more than 64 tags"),
        ({"tags": ("a", "x" * (TAG_LIMIT + 1))}, r"tags\[1\] is longer"),
        ({"tags": ("\x7f",)}, r"tags\[0\] holds a control"),
    ],
)
def test_what_nobody_could_use_is_refused(members: dict[str, object], said: str) -> None:
    for check in (check_instance, check_registration):
        with pytest.raises(InvalidInstance, match=said):
            check(changed(**members))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"status": "DOWN"}, "status must be one of"),
        ({"status": ""}, "status must be one of"),
        ({"metadata": msgspec.Raw(b"1" * (METADATA_LIMIT + 1))}, "metadata is longer"),
    ],
)
def test_what_only_others_may_say(members: dict[str, object], said: str) -> None:
    check_instance(changed(**members))
    with pytest.raises(InvalidInstance, match=said):
        check_registration(changed(**members))
