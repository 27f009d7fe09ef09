"""What an instance may look like, and what a registration may say."""

from typing import Any

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

GOOD = Instance("i", "reviews", Endpoint("http", "10.0.0.1:80"), 60, "UP", tags=("v1",))


def but(**members: Any) -> Instance:
    return msgspec.structs.replace(GOOD, **members)


@pytest.mark.parametrize(
    "instance",
    [
        GOOD,
        but(tags=("t" * TAG_LIMIT,) * TAGS_LIMIT),
        but(endpoint=Endpoint("udp", "x" * ENDPOINT_LIMIT)),
        but(metadata=msgspec.Raw(b'"' + b"x" * (METADATA_LIMIT - 2) + b'"')),
        but(status="STARTING"),
    ],
)
def test_taken(instance: Instance) -> None:
    check_registration(instance)


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        (but(service_name=""), "service_name is missing"),
        (but(service_name="a/b"), "service_name holds a slash"),
        (but(service_name="s" * 65), "service_name is longer than 64 bytes"),
        (but(endpoint=Endpoint("", "x")), "endpoint.type and endpoint.value must both be given"),
        (but(endpoint=Endpoint("http", "")), "endpoint.type and endpoint.value must both be given"),
        (but(endpoint=Endpoint("ftp", "x")), "endpoint.type must be one of http, https"),
        (
            but(endpoint=Endpoint("http", "x" * (ENDPOINT_LIMIT + 1))),
            "endpoint.value is longer than 128 bytes",
        ),
        (but(endpoint=Endpoint("http", "a\nb")), "endpoint.value holds a control character"),
        (but(tags=("t",) * (TAGS_LIMIT + 1)), "more than 64 tags"),
        (but(tags=("a", "é" * TAG_LIMIT)), r"tags\[1\] is longer than 1024 bytes"),
        (but(tags=("a\x85",)), r"tags\[0\] holds a control character"),
    ],
)
def test_refused(instance: Instance, words: str) -> None:
    with pytest.raises(InvalidInstance, match=words):
        check_instance(instance)


def test_only_registrations_are_held_to_status_and_metadata() -> None:
    for instance in (but(status="DOWN"), but(metadata=msgspec.Raw(b"x" * (METADATA_LIMIT + 1)))):
        check_instance(instance)
        with pytest.raises(InvalidInstance):
            check_registration(instance)
