from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amalgam8.model.errors import InvalidQuery
from amalgam8.model.instance import STATUSES, Endpoint, Instance
from amalgam8.registry.query import CRITERIA, FIELDS, parse_query, projection

ONE = Instance(
    "id1",
    "reviews",
    Endpoint("http", "h:1"),
    30,
    "UP",
    msgspec.Raw(b"null"),
    "2030-01-01T00:00:00Z",
    ("v1", "a"),
)


def matches(instance: Instance, **given: str) -> bool:
    return parse_query(given.items()).matches(instance)


def in_status(status: str) -> Instance:
    return msgspec.structs.replace(ONE, status=status)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, ["UP", "DOWN", ""]),
        ({"fields": "id"}, ["UP", "DOWN", ""]),
        ({"service_name": "reviews"}, ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]),
        ({"tags": "v1"}, ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]),
        ({"id": "id1"}, ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]),
        ({"status": "ALL"}, ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]),
        ({"status": "all"}, ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]),
        ({"status": "up"}, ["UP"]),
        ({"status": "Starting"}, ["STARTING"]),
        ({"status": "DOWN"}, ["DOWN"]),
        ({"status": "down"}, []),
        ({"status": ""}, [""]),
        ({"status": "UP", "service_name": "reviews"}, ["UP"]),
        ({"status": "ALL", "service_name": "other"}, []),
    ],
)
def test_which_statuses_are_shown(given: dict[str, str], shown: list[str]) -> None:
    statuses = ["UP", "STARTING", "OUT_OF_SERVICE", "DOWN", ""]
    assert [status for status in statuses if matches(in_status(status), **given)] == shown


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("v1", True),
        ("a,v1", True),
        ("v1,b", False),
        ("V1", False),
        (" v1", False),
        ("v1, a", False),
        ("", False),
    ],
)
def test_all_tags_must_be_there_exactly(tags: str, expected: bool) -> None:
    assert matches(ONE, tags=tags) is expected


def test_names_and_ids_are_exact() -> None:
    assert not matches(ONE, service_name="Reviews")
    assert not matches(ONE, service_name="")
    assert not matches(ONE, id="id")
    assert not matches(ONE, id="id1", service_name="ratings")


def test_the_first_of_repeated_parameters_counts() -> None:
    query = parse_query([("service_name", "a"), ("service_name", "b"), ("fields", "ttl"), ("fields", "nope")])
    assert query.service_name == "a"
    assert query.fields == frozenset({"ttl"})


@pytest.mark.parametrize("name", [*(field for field in FIELDS if field not in CRITERIA), "color", "Tags", ""])
def test_other_parameters_are_refused(name: str) -> None:
    with pytest.raises(InvalidQuery, match="id, service_name, status, tags"):
        parse_query([(name, "x")])


@pytest.mark.parametrize("text", ["nope", "id,", "id, ttl", "ID", ","])
def test_unknown_fields_are_refused(text: str) -> None:
    with pytest.raises(InvalidQuery, match="fields"):
        parse_query([("fields", text)])


def test_fields_are_checked_first() -> None:
    with pytest.raises(InvalidQuery, match="fields"):
        parse_query([("color", "red"), ("fields", "nope")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ["id", "endpoint"]),
        ("ttl,ttl", ["id", "endpoint", "ttl"]),
        ("links", ["id", "endpoint"]),
        ("metadata,tags", ["id", "endpoint", "metadata", "tags"]),
        (",".join(FIELDS), [name for name in Instance.__struct_fields__ if name != "extension"]),
    ],
)
def test_projection(text: str, shown: list[str]) -> None:
    query = parse_query([("fields", text)])
    assert query.fields is not None
    assert list(projection(query.fields)(ONE)) == shown


def test_projection_leaves_out_what_is_empty() -> None:
    bare = Instance("id1", "a", Endpoint("http", "h:1"))
    assert set(projection(frozenset(FIELDS))(bare)) == {"id", "service_name", "endpoint"}


tags = st.lists(st.sampled_from(["v1", "v2", "a", "b=c"]), max_size=4)
instances = st.builds(
    Instance,
    id=st.sampled_from(["1", "2"]),
    service_name=st.sampled_from(["a", "b"]),
    endpoint=st.just(Endpoint("http", "h:1")),
    status=st.sampled_from([*STATUSES, "DOWN"]),
    tags=tags.map(tuple),
)
criteria = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["1", "2", "3"]),
        "service_name": st.sampled_from(["a", "b", "c"]),
        "status": st.sampled_from(["UP", "up", "ALL", "DOWN", "STARTING"]),
        "tags": tags.filter(bool).map(",".join),
    },
)


@given(instances, criteria)
def test_criteria_are_anded(instance: Instance, given: dict[str, Any]) -> None:
    whole = matches(instance, **given)
    if "status" in given or len(given) > 1:
        parts = [matches(instance, **{"status": "ALL", name: value}) for name, value in given.items()]
        assert whole == all(parts)


@given(instances, criteria)
def test_one_criterion_more_never_shows_more(instance: Instance, given: dict[str, Any]) -> None:
    if given and matches(instance, **given):
        given.pop(next(iter(given)))
        assert not given or matches(instance, **given)
