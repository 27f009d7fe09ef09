import contextlib
import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import InvalidInput, InvalidInstance, InvalidJson
from amalgam8.model.instance import Endpoint
from amalgam8.registry.registration import Ttls, read_registration

WHOLE: dict[str, Any] = {
    "service_name": "reviews",
    "endpoint": {"type": "http", "value": "172.17.0.9:9080"},
}


def read(body: object, ttls: Ttls | None = None) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_registration(data, ttls or Ttls())


def test_the_least_that_is_needed() -> None:
    found = read(WHOLE)
    assert found.id == "5f940f0ddee732bb"
    assert (found.service_name, found.endpoint) == ("reviews", Endpoint("http", "172.17.0.9:9080"))
    assert (found.status, found.ttl, found.tags, found.last_heartbeat) == ("UP", 30, (), "")
    assert found.metadata is msgspec.UNSET


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, 30), (None, 30), (1, 10), (10, 10), (600, 600), (601, 600), (10**30, 600)]
)
def test_ttl_is_never_an_error_but_clamped(asked: int | None, granted: int) -> None:
    assert read({**WHOLE, "ttl": asked}).ttl == granted


@pytest.mark.parametrize(
    "text", ["null", '{"a" :  [1, 2.50]}', '"text"', "[]", "0", "true", '{"a":\n1}', '"\\u00e9"']
)
def test_metadata_is_kept_as_sent(text: str) -> None:
    body = b'{"metadata":' + text.encode() + b"," + json.dumps(WHOLE).encode()[1:]
    assert bytes(read(body).metadata) == text.encode()


def test_names_match_in_any_case_and_unknown_ones_are_ignored() -> None:
    found = read(
        {
            "SERVICE_NAME": "reviews",
            "EndPoint": {"Type": "http", "VALUE": "172.17.0.9:9080", "more": 1},
            "Tags": ["b", "a", "b", ""],
            "id": "mine",
            "last_heartbeat": {"not": "read"},
        }
    )
    assert found.id == "5f940f0ddee732bb"
    assert found.tags == ("b", "a", "b")


@pytest.mark.parametrize("status", ["up", "Starting", "OUT_of_SERVICE"])
def test_status_is_stored_in_upper_case(status: str) -> None:
    assert read({**WHOLE, "status": status}).status == status.upper()


def test_what_many_say_is_kept_once() -> None:
    body = {**WHOLE, "tags": ["v1", "canary"], "metadata": {"zone": "a"}}
    one, other = (read({**body, "endpoint": {"type": "http", "value": place}}) for place in ("a:1", "b:1"))
    assert one.tags is other.tags
    assert one.metadata is other.metadata
    assert one.endpoint.type is other.endpoint.type
    long = {**body, "metadata": "m" * 1000}
    assert read(long).metadata is not read(long).metadata
    assert bytes(read(long).metadata) == json.dumps("m" * 1000).encode()


def test_limits_are_inclusive() -> None:
    found = read(
        {
            "service_name": "é" * 32,
            "endpoint": {"type": "user", "value": "v" * 128},
            "metadata": "m" * 1022,
            "tags": ["t" * 1024] + ["t"] * 63,
        }
    )
    assert len(found.tags) == 64


BAD: list[tuple[str, object, type[InvalidInput], str]] = [
    ("empty body", b"", InvalidJson, "JSON"),
    ("broken", b'{"service_name":', InvalidJson, "JSON"),
    ("a list", [], InvalidJson, "JSON object"),
    ("null", None, InvalidJson, "JSON object"),
    ("not UTF-8", b'{"service_name":"\xff"}', InvalidJson, "UTF-8"),
    ("a lone surrogate", b'{"service_name":"\\ud800","endpoint":{}}', InvalidJson, "JSON"),
    ("deep", b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", InvalidJson, "JSON"),
    ("no name", {"endpoint": WHOLE["endpoint"]}, InvalidInstance, "service_name is missing"),
    ("empty name", {**WHOLE, "service_name": ""}, InvalidInstance, "service_name is missing"),
    ("a number as name", {**WHOLE, "service_name": 7}, InvalidJson, "service_name must be"),
    ("long name", {**WHOLE, "service_name": "é" * 32 + "x"}, InvalidInstance, "64"),
    ("slash", {**WHOLE, "service_name": "a/b"}, InvalidInstance, "slash"),
    ("white space", {**WHOLE, "service_name": "a b"}, InvalidInstance, "white space"),
    ("control", {**WHOLE, "service_name": "a\x07"}, InvalidInstance, "control"),
    ("no endpoint", {"service_name": "a"}, InvalidInstance, "endpoint is missing"),
    ("null endpoint", {**WHOLE, "endpoint": None}, InvalidInstance, "endpoint is missing"),
    ("text as endpoint", {**WHOLE, "endpoint": "http"}, InvalidJson, "endpoint"),
    ("no type", {**WHOLE, "endpoint": {"value": "a:1"}}, InvalidInstance, "endpoint.type"),
    ("no value", {**WHOLE, "endpoint": {"type": "http"}}, InvalidInstance, "endpoint.value"),
    ("empty value", {**WHOLE, "endpoint": {"type": "http", "value": ""}}, InvalidInstance, "endpoint.value"),
    ("value a number", {**WHOLE, "endpoint": {"type": "http", "value": 80}}, InvalidJson, "endpoint.value"),
    ("unknown type", {**WHOLE, "endpoint": {"type": "ftp", "value": "a"}}, InvalidInstance, "http, https"),
    (
        "type in capitals",
        {**WHOLE, "endpoint": {"type": "HTTP", "value": "a"}},
        InvalidInstance,
        "http, https",
    ),
    ("long value", {**WHOLE, "endpoint": {"type": "tcp", "value": "v" * 129}}, InvalidInstance, "128"),
    (
        "control in value",
        {**WHOLE, "endpoint": {"type": "tcp", "value": "a\r\nb"}},
        InvalidInstance,
        "control",
    ),
    ("broken metadata", b'{"metadata":{x},"service_name":"a"}', InvalidJson, "JSON"),
    ("a number that nobody can read", b'{"metadata":1e400,"service_name":"a"}', InvalidJson, "metadata"),
    ("long metadata", {**WHOLE, "metadata": "m" * 1023}, InvalidInstance, "1024"),
    ("metadata, lone surrogate", b'{"metadata":"\\udc00","service_name":"a"}', InvalidJson, "JSON"),
    ("unknown status", {**WHOLE, "status": "DOWN"}, InvalidInstance, "UP, STARTING"),
    ("number as status", {**WHOLE, "status": 1}, InvalidJson, "status"),
    ("negative ttl", {**WHOLE, "ttl": -1}, InvalidJson, "ttl"),
    ("broken ttl", {**WHOLE, "ttl": 1.5}, InvalidJson, "ttl"),
    ("text as ttl", {**WHOLE, "ttl": "30"}, InvalidJson, "ttl"),
    ("true as ttl", {**WHOLE, "ttl": True}, InvalidJson, "ttl"),
    ("text as tags", {**WHOLE, "tags": "v1"}, InvalidJson, "tags"),
    ("number among tags", {**WHOLE, "tags": ["v1", 2]}, InvalidJson, "tags"),
    ("null among tags", {**WHOLE, "tags": [None]}, InvalidJson, "tags"),
    ("65 tags", {**WHOLE, "tags": ["t"] * 65}, InvalidInstance, "64"),
    ("long tag", {**WHOLE, "tags": ["t" * 1025]}, InvalidInstance, r"tags\[0\]"),
    ("control in a tag", {**WHOLE, "tags": ["v1", "v\n2"]}, InvalidInstance, r"tags\[1\]"),
]


@pytest.mark.parametrize(("body", "error", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_refused_says_why(body: object, error: type[InvalidInput], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        read(body)
    assert type(caught.value) is error


def test_types_are_checked_before_content() -> None:
    with pytest.raises(InvalidJson, match="ttl"):
        read({"ttl": "x"})
    with pytest.raises(InvalidInstance, match="service_name"):
        read({"endpoint": {"type": "ftp"}, "status": "DOWN"})
    with pytest.raises(InvalidInstance, match="type"):
        read({**WHOLE, "endpoint": {"type": "ftp", "value": "a"}, "status": "DOWN"})
    with pytest.raises(InvalidInstance, match="status"):
        read({**WHOLE, "service_name": "a" * 65, "status": "DOWN"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["service_name", "endpoint", "ttl", "status", "tags", "metadata", "other"]),
        json_values,
    )
)
def test_any_json_is_taken_or_refused_as_the_senders_mistake(body: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInput):
        assert len(read(body).id) == 16


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read(body)


names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), blacklist_characters="/"), min_size=1
).filter(lambda text: len(text.encode()) <= 64 and not any(char.isspace() for char in text))


@given(names, st.sampled_from(["http", "https", "tcp", "udp", "user"]), st.integers(1, 65535))
def test_the_id_depends_on_name_and_endpoint_only(name: str, kind: str, port: int) -> None:
    body = {"service_name": name, "endpoint": {"type": kind, "value": f"h:{port}"}}
    one = read(body)
    other = read({**body, "tags": ["x"], "status": "STARTING", "ttl": 99, "metadata": 1, "id": "mine"})
    assert one.id == other.id == hashlib.sha256(f"{name}/{kind}/h:{port}".encode()).hexdigest()[:16]


TEXTS = st.sampled_from(["", "a", "http", "UP", "up", "é", "a b", "x" * 200, "\x00"])
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXTS, st.lists(TEXTS, max_size=3)
)
MEMBERS = st.lists(
    st.tuples(
        st.sampled_from(["service_name", "endpoint", "ttl", "status", "tags", "metadata", "Ttl", "more"]),
        st.one_of(JUNK, st.dictionaries(st.sampled_from(["type", "value", "Value", "x"]), JUNK)),
    ),
    max_size=7,
)
GOOD = {"service_name": '"a"', "endpoint": '{"type":"http","value":"a:1"}', "ttl": "20", "tags": '["v1"]'}


@given(MEMBERS, st.sets(st.sampled_from(sorted(GOOD))))
def test_a_usual_body_reads_as_any_other_does(members: list[tuple[str, Any]], good: set[str]) -> None:
    """In one go or member by member, repeated members too: the same instance, or the same complaint."""
    written = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members]
    written += [f'"{name}":{GOOD[name]}' for name in sorted(good)]
    usual = "{" + ",".join(written) + "}"
    # A member that is not known makes it an unusual one, and is ignored.
    unusual = "{" + ",".join([*written, '"unknown":1']) + "}"
    outcomes = []
    for text in (usual, unusual):
        try:
            outcomes.append(msgspec.structs.asdict(read(text.encode())))
        except InvalidInput as error:
            outcomes.append({"error": (type(error), str(error))})
    for one in outcomes:
        if isinstance(one.get("metadata"), msgspec.Raw):
            one["metadata"] = bytes(one["metadata"])
    assert outcomes[0] == outcomes[1]
