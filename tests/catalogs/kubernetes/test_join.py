"""Joining slices, pods and services: ids, types, tags, statuses, and that order does not matter."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.catalogs.catalog import NEVER_HEARD
from amalgam8.catalogs.kubernetes.join import ANNOTATION_LIMIT, Join, endpoint_type, tags_of
from amalgam8.catalogs.kubernetes.objects import Object, Pod, Service, Slice, SlicePort
from amalgam8.model.instance import Instance
from tests.catalogs.kubernetes.cluster import endpoint, endpoint_slice, pod, recorded_list, service

KINDS: dict[str, type[Object]] = {"EndpointSlice": Slice, "Pod": Pod, "Service": Service}


def read(one: dict[str, Any], kind: type[Object] | None = None) -> Object:
    return msgspec.convert(one, kind or KINDS[one["kind"]])


def joined(*objects: dict[str, Any]) -> Join:
    join = Join(lambda namespace: namespace)
    for one in objects:
        put(join, one)
    return join


def put(join: Join, one: dict[str, Any]) -> None:
    found = read(one)
    join.put(found.metadata.key, found)


def instances(join: Join, tenant: str = "shop") -> dict[str, Instance]:
    found = join.found().get(tenant, [])
    assert len({one.id for one in found}) == len(found)
    return {one.id: one for one in found}


def statuses(join: Join) -> dict[str, str]:
    return {identity: one.status for identity, one in instances(join).items()}


def test_an_instance_of_a_pod() -> None:
    join = joined(
        pod(
            "shop",
            "reviews-1",
            {"app": "reviews", "version": "v1", "pod-template-hash": "7d"},
            annotations={"a": "b"},
        ),
        service("shop", "reviews"),
        endpoint_slice("shop", "reviews", [endpoint("10.0.0.1", "reviews-1")], 9080),
    )
    (one,) = join.found()["shop"]
    assert one == Instance(
        "uid-of-reviews-1-9080",
        "reviews",
        one.endpoint,
        status="UP",
        metadata=msgspec.Raw(b'{"a":"b"}'),
        last_heartbeat=NEVER_HEARD,
        tags=("app=reviews", "version=v1", "v1", "kubernetes"),
    )
    assert (one.endpoint.type, one.endpoint.value, one.ttl) == ("http", "10.0.0.1:9080", 0)


def test_an_endpoint_without_a_pod() -> None:
    join = joined(endpoint_slice("shop", "old", [endpoint("192.0.2.7")], 80))
    one = instances(join)["192.0.2.7-80"]
    assert (one.tags, one.status, one.metadata) == (("kubernetes",), "UP", msgspec.UNSET)


@pytest.mark.parametrize(
    ("ready", "terminating", "status"),
    [
        (True, False, "UP"),
        (None, False, "UP"),
        (False, False, "STARTING"),
        (False, True, "OUT_OF_SERVICE"),
        (True, True, "UP"),
    ],
)
def test_only_ready_endpoints_are_up(ready: bool | None, terminating: bool, status: str) -> None:
    one = endpoint("192.0.2.7", ready=ready, terminating=terminating)
    assert statuses(joined(endpoint_slice("shop", "old", [one], 80))) == {"192.0.2.7-80": status}


def test_an_endpoint_waits_for_its_pod() -> None:
    join = joined(endpoint_slice("shop", "reviews", [endpoint("10.0.0.1", "reviews-1")], 9080))
    assert instances(join) == {}
    put(join, pod("shop", "reviews-1", {"version": "v1"}))
    assert instances(join)["uid-of-reviews-1-9080"].tags == ("version=v1", "v1", "kubernetes")
    join.drop(("shop", "reviews-1"), Pod)
    assert instances(join) == {}


def test_an_endpoint_of_an_earlier_pod_of_that_name_is_not_taken_for_it() -> None:
    one = endpoint("10.0.0.1", "db-0")
    one["targetRef"]["uid"] = "uid-of-the-one-before"
    assert instances(joined(pod("shop", "db-0", {}), endpoint_slice("shop", "db", [one], 5432))) == {}


def test_several_slices_are_one_service() -> None:
    join = joined(
        endpoint_slice("shop", "old", [endpoint("192.0.2.1")], 80, "old-1"),
        endpoint_slice("shop", "old", [endpoint("192.0.2.2")], 80, "old-2"),
    )
    assert set(instances(join)) == {"192.0.2.1-80", "192.0.2.2-80"}
    join.drop(("shop", "old-1"), Slice)
    assert set(instances(join)) == {"192.0.2.2-80"}


@pytest.mark.parametrize("ready_first", [True, False])
def test_an_endpoint_in_two_slices_is_one_instance_and_ready_wins(ready_first: bool) -> None:
    join = joined(
        endpoint_slice("shop", "old", [endpoint("192.0.2.1", ready=ready_first)], 80, "old-1"),
        endpoint_slice("shop", "old", [endpoint("192.0.2.1", ready=not ready_first)], 80, "old-2"),
    )
    assert statuses(join) == {"192.0.2.1-80": "UP"}
    join.drop(("shop", "old-1" if ready_first else "old-2"), Slice)
    assert statuses(join) == {"192.0.2.1-80": "STARTING"}


def test_a_slice_may_move_to_another_service() -> None:
    join = joined(endpoint_slice("shop", "old", [endpoint("192.0.2.1")], 80, "x"))
    put(join, endpoint_slice("shop", "new", [endpoint("192.0.2.1")], 80, "x"))
    assert instances(join)["192.0.2.1-80"].service_name == "new"


def test_a_slice_of_no_service_is_nobodys() -> None:
    one = endpoint_slice("shop", "old", [endpoint("192.0.2.1")], 80)
    one["metadata"]["labels"] = {}
    assert instances(joined(one)) == {}


def test_services_that_share_a_pod_have_ids_of_their_own() -> None:
    shared = [
        pod("shop", "db-0", {}),
        endpoint_slice("shop", "db", [endpoint("10.0.0.1", "db-0")], 5432),
        endpoint_slice("shop", "db-headless", [endpoint("10.0.0.1", "db-0")], 5432),
        service("shop", "db", "2026-11-24T05:44:07Z"),
    ]
    join = joined(*shared, service("shop", "db-headless", "2026-11-24T05:44:06Z"))
    found = {one.service_name: identity for identity, one in instances(join).items()}
    assert found == {"db-headless": "uid-of-db-0-5432", "db": "uid-of-db-0-5432-db.shop"}
    join.drop(("shop", "db-headless-x1"), Slice)
    assert set(instances(join)) == {"uid-of-db-0-5432"}


def test_tcp_and_udp_at_one_port_are_two_instances() -> None:
    ports = [
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"name": "dns-tcp", "protocol": "TCP", "port": 53},
    ]
    found = instances(joined(endpoint_slice("shop", "dns", [endpoint("192.0.2.1")], ports)))
    assert {identity: one.endpoint.type for identity, one in found.items()} == {
        "192.0.2.1-53": "tcp",
        "192.0.2.1-53-udp": "udp",
    }


def test_both_address_families_of_a_pod_are_one_instance() -> None:
    join = joined(
        pod("shop", "a", {}),
        endpoint_slice("shop", "a", [endpoint("fd00::1", "a")], 80, "a-0", addressType="IPv6"),
        endpoint_slice("shop", "a", [endpoint("10.0.0.1", "a")], 80, "a-1"),
    )
    assert instances(join)["uid-of-a-80"].endpoint.value == "10.0.0.1:80"
    join.drop(("shop", "a-1"), Slice)
    assert instances(join)["uid-of-a-80"].endpoint.value == "[fd00::1]:80"


@pytest.mark.parametrize(
    ("protocol", "app_protocol", "name", "kind"),
    [
        ("TCP", None, "http", "http"),
        ("TCP", None, "HTTPS", "https"),
        ("TCP", None, "http-admin", "http"),
        ("TCP", None, "admin", "tcp"),
        ("TCP", None, "", "tcp"),
        (None, None, None, "tcp"),
        ("TCP", "http", "admin", "http"),
        ("TCP", "https", "http", "https"),
        ("TCP", "kubernetes.io/h2c", "grpc", "http"),
        ("TCP", "kubernetes.io/wss", "", "https"),
        ("TCP", "mysql", "http", "tcp"),
        ("UDP", "http", "http", "udp"),
        ("SCTP", None, "http", None),
    ],
)
def test_the_type_of_a_port(
    protocol: str | None, app_protocol: str | None, name: str | None, kind: str | None
) -> None:
    assert endpoint_type(SlicePort(name, protocol, 80, app_protocol)) == kind


def test_tags_are_labels_but_for_hashes_then_the_version() -> None:
    labels = {
        "version": "v2",
        "app": "reviews",
        "empty": "",
        "pod-template-hash": "x",
        "controller-revision-hash": "y",
        "pod-template-generation": "1",
    }
    one = read(pod("shop", "a", labels))
    assert isinstance(one, Pod)
    assert tags_of(one) == ("app=reviews", "empty=", "version=v2", "v2", "kubernetes")


def test_annotations_that_are_documents_are_left_out() -> None:
    long = {"kubectl.kubernetes.io/last-applied-configuration": "x" * (ANNOTATION_LIMIT + 1), "team": "a"}
    join = joined(
        pod("shop", "a", {}, annotations=long), endpoint_slice("shop", "a", [endpoint("10.0.0.1", "a")], 80)
    )
    assert instances(join)["uid-of-a-80"].metadata == msgspec.Raw(b'{"team":"a"}')


def test_namespaces_of_nobody_are_left_out() -> None:
    join = Join(lambda namespace: "team-a" if namespace == "shop" else None)
    for namespace in ("shop", "kube-system"):
        put(join, endpoint_slice(namespace, "old", [endpoint("192.0.2.1")], 80))
    assert list(join.found()) == ["team-a"]


def test_two_namespaces_of_one_tenant_never_share_an_id() -> None:
    join = Join(lambda _namespace: "default")
    for namespace in ("a", "b"):
        put(join, endpoint_slice(namespace, "old", [endpoint("192.0.2.1")], 80))
    assert set(instances(join, "default")) == {"192.0.2.1-80", "192.0.2.1-80-old.b"}


def test_a_change_leaves_instances_of_other_services_alone() -> None:
    join = joined(*(one for plural in ("endpointslices", "pods", "services") for one in typed(plural)))
    before = instances(join)
    put(join, endpoint_slice("shop", "new", [endpoint("192.0.2.1")], 80))
    after = instances(join)
    assert len(after) == len(before) + 1
    assert all(after[identity] is one for identity, one in before.items())


def typed(plural: str) -> list[dict[str, Any]]:
    """Objects of a recorded list, which do not name their kind."""
    listed = recorded_list(plural)
    return [{**one, "kind": listed["kind"].removesuffix("List")} for one in listed["items"]]


NAMES = st.sampled_from(["a", "b", "c"])
PODS = st.builds(
    lambda name, label: pod("shop", name, {"version": label}), NAMES, st.sampled_from(["v1", "v2"])
)
SLICES = st.builds(
    lambda name, service_name, pods, ready: endpoint_slice(
        "shop", service_name, [endpoint("10.0.0.1", one, ready=ready) for one in pods], 80, name
    ),
    st.sampled_from(["s1", "s2", "s3"]),
    st.sampled_from(["reviews", "ratings"]),
    st.lists(NAMES, max_size=3),
    st.booleans(),
)
SERVICES = st.builds(
    lambda name, second: service("shop", name, f"2026-11-24T05:44:0{second}Z"),
    st.sampled_from(["reviews", "ratings"]),
    st.integers(0, 9),
)
DROPS = st.tuples(
    st.sampled_from([Pod, Slice, Service]), st.sampled_from(["a", "b", "c", "s1", "s2", "reviews"])
)


@given(st.lists(PODS | SLICES | SERVICES | DROPS, max_size=30))
def test_following_changes_gives_what_beginning_anew_would(steps: list[Any]) -> None:
    followed = Join(lambda namespace: namespace)
    now: dict[tuple[type[Object], str], dict[str, Any]] = {}
    for step in steps:
        if isinstance(step, tuple):
            now.pop((step[0], step[1]), None)
            followed.drop(("shop", step[1]), step[0])
        else:
            now[KINDS[step["kind"]], step["metadata"]["name"]] = step
            put(followed, step)
        followed.found()
    assert followed.found() == joined(*now.values()).found()
    assert followed.found() == joined(*reversed(now.values())).found()
