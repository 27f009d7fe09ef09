"""Eureka's documents and instances: every row of the mapping, both ways, JSON and XML."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.catalogs.eureka_document import (
    DURATION,
    PUBLISHED_KEY,
    TAGS_KEY,
    decode,
    encode,
    hashcode,
    ids_meant,
    instance_id_of,
    instance_key,
    read_applications,
    read_instance,
    write_applications,
    write_instance,
)
from amalgam8.model.errors import BadAnswer, InvalidInstance
from amalgam8.model.instance import Endpoint, Instance
from tests.catalogs.eureka_server import document

Document = dict[str, Any]


def doc(**members: Any) -> Document:
    """A registration as Eureka's own client sends it; a member that is ``...`` is left out."""
    whole = document("REVIEWS", "h1:reviews:9080", 9080, host="h1")
    return {key: value for key, value in {**whole, **members}.items() if value is not ...}


def read(**members: Any) -> Instance:
    return read_instance(doc(**members)).instance


def test_a_whole_registration() -> None:
    one = read(metadata={"zone": "a", TAGS_KEY: "v1; canary ,,v1"})
    assert one == Instance(
        "reviews:h1:reviews:9080",
        "reviews",
        Endpoint("tcp", "h1:9080"),
        ttl=90,
        status="UP",
        metadata=msgspec.Raw(b'{"zone":"a","amalgam8.tags":"v1; canary ,,v1"}'),
        tags=("v1", "canary"),
    )


ON, OFF = {"$": 8443, "@enabled": "true"}, {"$": 8443, "@enabled": "false"}


@pytest.mark.parametrize(
    ("members", "endpoint"),
    [
        ({"securePort": ON}, Endpoint("https", "h1:8443")),
        ({"securePort": {"$": "8443", "@enabled": True}}, Endpoint("https", "h1:8443")),
        ({"securePort": OFF}, Endpoint("tcp", "h1:9080")),
        ({"port": {"$": 9080, "@enabled": False}}, Endpoint("tcp", "h1")),
        ({"port": ..., "securePort": ...}, Endpoint("tcp", "h1")),
        ({"port": 9080}, Endpoint("tcp", "h1:9080")),
        ({"port": "9080"}, Endpoint("tcp", "h1:9080")),
        ({"hostName": "fd00::1"}, Endpoint("tcp", "[fd00::1]:9080")),
    ],
)
def test_endpoints(members: Document, endpoint: Endpoint) -> None:
    assert read(**members).endpoint == endpoint


@pytest.mark.parametrize(
    ("members", "identity"),
    [
        ({"instanceId": "x"}, "reviews:x"),
        ({"instanceId": "reviews:x"}, "reviews:reviews:x"),
        ({"instanceId": ...}, "reviews:h1"),
        ({"instanceId": ..., "dataCenterInfo": ...}, "reviews:h1"),
        ({"instanceId": ..., "dataCenterInfo": {"name": "Netflix"}}, "reviews:h1"),
        (
            {"instanceId": ..., "dataCenterInfo": {"name": "Amazon", "metadata": {"instance-id": "i-1"}}},
            "reviews:i-1",
        ),
        (
            {"instanceId": ..., "dataCenterInfo": {"name": "SoftLayer", "metadata": {"getId": "7"}}},
            "reviews:7",
        ),
    ],
)
def test_ids(members: Document, identity: str) -> None:
    assert read(**members).id == identity


@pytest.mark.parametrize(
    ("members", "ttl"),
    [
        ({"leaseInfo": {"durationInSecs": 30}}, 30),
        ({"leaseInfo": {"durationInSecs": "30"}}, 30),
        ({"leaseInfo": {"durationInSecs": -1}}, DURATION),
        ({"leaseInfo": {}}, DURATION),
        ({"leaseInfo": ...}, DURATION),
        ({"leaseInfo": None}, DURATION),
    ],
)
def test_time_to_live(members: Document, ttl: int) -> None:
    assert read(**members).ttl == ttl


@pytest.mark.parametrize(("status", "shown"), [("DOWN", "DOWN"), ("", ""), ("odd", "odd"), (..., "UP")])
def test_statuses_are_verbatim(status: Any, shown: str) -> None:
    assert read(status=status).status == shown


@pytest.mark.parametrize("metadata", [..., None, "", {}, {"@class": "java.util.Collections$EmptyMap"}])
def test_no_metadata_is_an_empty_object(metadata: Any) -> None:
    one = read(metadata=metadata)
    assert (one.metadata, one.tags) == (msgspec.Raw(b"{}"), ())


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"hostName": ...}, "hostName is missing"),
        ({"hostName": 3}, "hostName must be a text"),
        ({"instanceId": []}, "instanceId must be a text"),
        ({"leaseInfo": 3}, "leaseInfo must be an object"),
        ({"ipAddr": ...}, "ipAddr is missing"),
        ({"vipAddress": ""}, "vipAddress is missing"),
        ({"app": "OTHER"}, "the path says 'reviews'"),
        ({"app": "a/b"}, "path says"),
        ({"instanceId": ..., "dataCenterInfo": {"name": "azure"}}, "dataCenterInfo.name: 'azure'"),
        ({"instanceId": ..., "dataCenterInfo": {"name": "Amazon"}}, "nothing to take in its place"),
        ({"port": {"$": 99999, "@enabled": "true"}}, "port must be a number"),
        ({"port": {"$": "many", "@enabled": "true"}}, "port must be a number"),
        ({"metadata": []}, "metadata must be an object"),
        ({"metadata": {"a": "x" * 1100}}, "metadata is longer"),
        ({"status": 3}, "status must be a text"),
        ({"status": "x" * 33}, "status must be a text"),
        ({"hostName": "h" * 129}, "endpoint.value is longer"),
    ],
)
def test_what_cannot_be_registered(members: Document, said: str) -> None:
    with pytest.raises(InvalidInstance, match=said):
        read_instance(doc(**members), "reviews")


def test_the_path_gives_the_name_where_the_document_does_not() -> None:
    assert read_instance(doc(app=...), "Reviews").instance.service_name == "reviews"
    with pytest.raises(InvalidInstance, match="service_name is missing"):
        read_instance(doc(app=...))


def test_a_listing_may_say_less_than_a_registration() -> None:
    bare = {"app": "A", "hostName": "h", "metadata": {"a": "x" * 5000}}
    assert read_instance(bare, strict=False).instance.id == "a:h"


def test_the_extension_comes_back() -> None:
    given = doc(healthCheckUrl="http://h1/health", asgName="group", secureVipAddress="s")
    registered = read_instance(given)
    shown = write_instance(registered.instance, registered.extension, registered=10.5, renewed=20.0)
    for member in (
        "instanceId",
        "hostName",
        "ipAddr",
        "vipAddress",
        "healthCheckUrl",
        "asgName",
        "port",
        "countryId",
    ):
        assert shown[member] == given[member]
    assert shown["secureVipAddress"] == "s"


def test_the_instance_beats_the_extension() -> None:
    registered = read_instance(doc())
    changed = msgspec.structs.replace(
        registered.instance, status="OUT_OF_SERVICE", ttl=33, metadata=msgspec.Raw(b'{"a":"b"}')
    )
    shown = write_instance(changed, registered.extension, registered=10.5, renewed=20.0, action="MODIFIED")
    assert (shown["status"], shown["metadata"], shown["actionType"]) == (
        "OUT_OF_SERVICE",
        {"a": "b"},
        "MODIFIED",
    )
    lease = shown["leaseInfo"]
    assert (lease["durationInSecs"], lease["registrationTimestamp"], lease["lastRenewalTimestamp"]) == (
        33,
        10500,
        20000,
    )
    assert (shown["lastDirtyTimestamp"], shown["lastUpdatedTimestamp"]) == ("10500", "10500")


@pytest.mark.parametrize(
    ("kind", "value", "host", "port", "secure"),
    [
        ("http", "10.0.0.1:9080", "10.0.0.1", (9080, "true"), (7002, "false")),
        ("https", "h1:8443", "h1", (7001, "false"), (8443, "true")),
        ("http", "https://h1/x", "h1", (7001, "false"), (443, "true")),
        ("tcp", "[fd00::1]:53", "fd00::1", (53, "true"), (7002, "false")),
        ("udp", "10.0.0.1:53", "10.0.0.1:53", (7001, "false"), (7002, "false")),
    ],
)
def test_an_instance_of_another_api_is_shown(
    kind: str, value: str, host: str, port: tuple[int, str], secure: tuple[int, str]
) -> None:
    one = Instance("26b250bc98d8a74c", "ratings", Endpoint(kind, value), tags=("v1", "b"))
    shown = write_instance(one)
    assert (shown["hostName"], shown["ipAddr"]) == (host, host)
    assert (shown["port"]["$"], shown["port"]["@enabled"]) == port
    assert (shown["securePort"]["$"], shown["securePort"]["@enabled"]) == secure
    assert (shown["app"], shown["vipAddress"], shown["instanceId"]) == (
        "RATINGS",
        "ratings",
        "26b250bc98d8a74c",
    )
    assert (shown["status"], shown["metadata"]) == ("UNKNOWN", {TAGS_KEY: "v1,b"})
    assert shown["leaseInfo"]["durationInSecs"] == DURATION


@pytest.mark.parametrize(
    ("metadata", "shown"),
    [(b'{"a":1,"b":{"c":[]},"d":"e"}', {"a": "1", "b": '{"c":[]}', "d": "e"}), (b"[1]", {}), (b"null", {})],
)
def test_metadata_are_texts_by_name(metadata: bytes, shown: Document) -> None:
    one = Instance("i", "ratings", Endpoint("http", "h:1"), metadata=msgspec.Raw(metadata))
    assert write_instance(one)["metadata"] == shown


@given(
    st.sampled_from(["https", "tcp"]),
    st.integers(1, 65535),
    st.sampled_from(["UP", "DOWN", "STARTING"]),
    st.lists(st.from_regex(r"[a-z0-9=.]{1,9}", fullmatch=True), unique=True, max_size=4),
    st.booleans(),
)
def test_what_is_shown_is_read_as_the_same_instance(
    kind: str, port: int, status: str, tags: list[str], xml: bool
) -> None:
    one = Instance("ratings:x", "ratings", Endpoint(kind, f"10.0.0.1:{port}"), 90, status, tags=tuple(tags))
    shown = decode(encode({"instance": write_instance(one)}, xml=xml))["instance"]
    again = read_instance(shown).instance
    assert msgspec.structs.replace(again, metadata=msgspec.UNSET) == one


@pytest.mark.parametrize("xml", [False, True])
def test_applications_there_and_back(xml: bool) -> None:
    ones = [Instance(f"{name}:x", name, Endpoint("http", "h:1"), status="UP") for name in ("b", "a", "c")]
    written = write_applications(map(write_instance, ones), version=7, hashcode=hashcode(["UP"] * 3))
    applications = read_applications(decode(encode(written, xml=xml)))
    assert (applications.version, applications.hashcode) == (7, "UP_3_")
    assert [one["app"] for one in applications.instances] == ["A", "B", "C"]


def test_single_objects_stand_for_lists() -> None:
    one = doc(app=...)
    body = {"application": {"name": "REVIEWS", "instance": one}, "versions__delta": 3}
    found = read_applications({"applications": body})
    assert (found.version, found.hashcode) == (3, None)
    assert found.instances[0]["app"] == "REVIEWS"


@pytest.mark.parametrize("empty", [{}, "", None, {"application": []}, {"application": ""}])
def test_no_applications(empty: Any) -> None:
    assert read_applications({"applications": empty}).instances == ()


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"instance": {}},
        {"applications": [1]},
        {"applications": {"application": [1]}},
        {"applications": {"application": {"name": "A", "instance": ["x"]}}},
    ],
)
def test_other_documents_are_refused(other: Document) -> None:
    with pytest.raises(BadAnswer):
        read_applications(other)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"<a>", b"[" * 10_000, b"{" * 10_000])
def test_what_is_neither_json_nor_xml_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        decode(data)


def test_hash_codes() -> None:
    assert hashcode([]) == ""
    assert hashcode(["UP", "DOWN", "UP", "STARTING"]) == "DOWN_1_STARTING_1_UP_2_"


def test_ids_with_and_without_the_prefix() -> None:
    assert instance_id_of("Reviews", "h1") == "reviews:h1"
    assert "reviews:h1" in ids_meant("REVIEWS", "h1")
    assert "reviews:h1" in ids_meant("REVIEWS", "reviews:h1")
    assert "26b250bc98d8a74c" in ids_meant("ratings", "26b250bc98d8a74c")
    assert instance_key(doc()) == "h1:reviews:9080"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(doc())), JSON, max_size=6), st.booleans())
def test_whatever_members_hold_it_is_an_instance_or_refused(members: Document, strict: bool) -> None:
    try:
        registered = read_instance(doc(**members), strict=strict)
    except InvalidInstance:
        return
    shown = write_instance(registered.instance, registered.extension)
    assert decode(encode({"instance": shown}))["instance"]["app"] == registered.instance.service_name.upper()
    assert decode(encode({"instance": shown}, xml=True))["instance"]["instanceId"]


@given(JSON)
def test_whatever_a_document_holds_it_is_read_or_refused(body: Any) -> None:
    try:
        read_applications({"applications": body})
    except BadAnswer:
        return


def test_the_mark_of_what_a_registry_published_is_no_tag() -> None:
    assert read(metadata={PUBLISHED_KEY: "true"}).tags == ()
