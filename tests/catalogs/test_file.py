"""Files of instances: what is read, what is refused and where, and what stays while one is broken."""

import os
from pathlib import Path

import msgspec
import pytest

from amalgam8.catalogs.catalog import NEVER_HEARD, Found, Partial
from amalgam8.catalogs.contract import running
from amalgam8.catalogs.file import (
    FILE_LIMIT,
    PERIOD,
    BrokenFile,
    FileOptions,
    Files,
    open_catalog,
    read_instances,
)
from amalgam8.catalogs.loader import read_options
from amalgam8.model.errors import InvalidSetting
from amalgam8.model.instance import Endpoint, Instance

YAML = """
instances:
- service_name: reviews
  endpoint: {type: http, value: "10.0.0.1:9080"}
  tags: [v1]
  ttl: 60
  metadata: {zone: a}
- service_name: ratings
  endpoint: {type: tcp, value: "10.0.0.2:9080"}
  status: out_of_service
"""
JSON = """{"instances": [
  {"service_name": "reviews", "endpoint": {"type": "http", "value": "10.0.0.1:9080"}, "colour": "any"}
]}"""


def one(name: str = "a", value: str = "h:1") -> str:
    return f'{{service_name: {name}, endpoint: {{type: http, value: "{value}"}}}}'


def test_a_yaml_file() -> None:
    reviews, ratings = read_instances("shop.yaml", YAML)
    assert reviews == Instance(
        reviews.id,
        "reviews",
        Endpoint("http", "10.0.0.1:9080"),
        status="UP",
        metadata=msgspec.Raw(b'{"zone":"a"}'),
        last_heartbeat=NEVER_HEARD,
        tags=("v1", "filesystem"),
    )
    assert (ratings.status, ratings.ttl, ratings.tags) == ("OUT_OF_SERVICE", 0, ("filesystem",))


def test_a_json_file_has_the_ids_of_registrations() -> None:
    body = '{"service_name": "ratings", "endpoint": {"type": "http", "value": "172.17.0.11:9080"}}'
    (ratings,) = read_instances("shop.json", f'{{"instances": [{body}]}}')
    assert ratings.id == "26b250bc98d8a74c"
    assert ratings.metadata is msgspec.UNSET
    assert len(read_instances("shop.json", JSON)) == 1


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.json", '{"instances": [\n  {"a": }]}', "a.json: line 2, column 9: "),
        ("a.json", "", "a.json: line 1, column 1: "),
        ("a.json", "[" * 100_000, "a.json: nested too deeply"),
        ("a.json", "[]", "a.json: $: must be an object"),
        ("a.json", '{"instances": {}}', "a.json: $: must be an object with the list 'instances'"),
        ("a.yaml", "", "a.yaml: $: must be"),
        ("a.yaml", "instances:\n- {a: b: c}", "a.yaml: line 2, column 8: "),
        ("a.yaml", "instances: &x\n- *x", "a.yaml: line 2, column 3: aliases"),
        ("a.yaml", "instances: !!python/object:os.system []", "a.yaml: line 1, column 12: could not"),
        ("a.yaml", "a: \x01", "a.yaml: no YAML"),
        ("a.yaml", "[" * 100_000, "a.yaml: line 1, column "),
        ("a.yaml", "instances: [3]", "a.yaml: $.instances[0]: Expected `object`"),
        ("a.yaml", f"instances: [{one()}, {{}}]", "a.yaml: $.instances[1]: service_name is missing"),
        ("a.yaml", "instances: [{service_name: a}]", "a.yaml: $.instances[0]: endpoint.type and"),
        (
            "a.yaml",
            "instances: [{service_name: a, endpoint: {type: http, value: 80}}]",
            "a.yaml: $.instances[0].endpoint.value: Expected `str`",
        ),
        (
            "a.yaml",
            "instances: [{service_name: a, endpoint: {type: ftp, value: x}}]",
            "a.yaml: $.instances[0]: endpoint.type must be one of",
        ),
        (
            "a.yaml",
            "instances: [{service_name: a, endpoint: {type: tcp, value: x}, tags: [1.0]}]",
            "a.yaml: $.instances[0].tags[0]: Expected `str`",
        ),
        (
            "a.yaml",
            "instances: [{service_name: a, endpoint: {type: tcp, value: x}, status: DOWN}]",
            "a.yaml: $.instances[0]: status must be one of",
        ),
        ("a.yaml", f"instances: [{one('a/b')}]", "a.yaml: $.instances[0]: service_name holds"),
        ("a.yaml", f"instances: [{one()}, {one('b')}, {one()}]", "a.yaml: $.instances[2]: the same"),
        (
            "a.yaml",
            f"instances: [{{service_name: a, endpoint: {{type: tcp, value: x}}, metadata: {'x' * 1100}}}]",
            "a.yaml: $.instances[0]: metadata is longer",
        ),
        (
            "a.yaml",
            "instances: [{service_name: a, endpoint: {type: tcp, value: x}, metadata: {[1, 2]: 3}}]",
            "a.yaml: ",
        ),
    ],
)
def test_a_broken_file_says_where(name: str, text: str, where: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        read_instances(name, text)
    assert str(caught.value).startswith(where)


async def fetched(files: Files) -> tuple[dict[str, list[str]], str]:
    """Services by tenant, and what was wrong."""
    problem = ""
    try:
        found: Found = await files.fetch()
    except Partial as partly:
        found, problem = partly.found, str(partly)
    return {tenant: sorted(one.service_name for one in some) for tenant, some in found.items()}, problem


async def test_each_tenant_has_a_file(tmp_path: Path) -> None:
    (tmp_path / "default.yaml").write_text(YAML)
    (tmp_path / "shop.json").write_text(JSON)
    (tmp_path / "web.yml").write_text("instances: []")
    for other in ("notes.txt", ".hidden.yaml", "shop.yaml.tmp", ".yaml"):
        (tmp_path / other).write_text("nonsense: [")
    found = await fetched(Files(tmp_path))
    assert found == ({"default": ["ratings", "reviews"], "shop": ["reviews"], "web": []}, "")


async def test_a_broken_file_keeps_its_tenant_and_does_not_touch_others(tmp_path: Path) -> None:
    files = Files(tmp_path)
    (tmp_path / "default.yaml").write_text(f"instances: [{one('a')}]")
    (tmp_path / "shop.yaml").write_text(f"instances: [{one('b')}]")
    assert await fetched(files) == ({"default": ["a"], "shop": ["b"]}, "")
    (tmp_path / "shop.yaml").write_text("instances: [")
    (tmp_path / "default.yaml").write_text(f"instances: [{one('c')}]")
    found, problem = await fetched(files)
    assert found == {"default": ["c"], "shop": ["b"]}
    assert problem.startswith("shop.yaml: line ")
    assert (await fetched(files))[1] == problem, "as long as it is broken, it is said"
    (tmp_path / "shop.yaml").write_text("instances: []")
    assert await fetched(files) == ({"default": ["c"], "shop": []}, "")


async def test_an_emptied_file_is_broken_and_a_removed_one_is_gone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(f"instances: [{one()}]")
    assert (await fetched(files))[0] == {"shop": ["a"]}
    path.write_text("")
    assert (await fetched(files))[0] == {"shop": ["a"]}
    path.unlink()
    assert await fetched(files) == ({}, "")


async def test_a_file_replaced_by_another_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    files = Files(tmp_path)
    path, other = tmp_path / "shop.yaml", tmp_path / "new"
    path.write_text(f"instances: [{one('a')}]")
    os.utime(path, (1_000_000, 1_000_000))
    assert (await fetched(files))[0] == {"shop": ["a"]}
    other.write_text(f"instances: [{one('b')}]")
    os.utime(other, (1_000_000, 1_000_000))
    other.rename(path)
    assert (await fetched(files))[0] == {"shop": ["b"]}


async def test_a_file_written_twice_within_a_moment_is_seen(tmp_path: Path) -> None:
    files = Files(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(f"instances: [{one('a')}]")
    stamp = path.stat().st_mtime_ns
    assert (await fetched(files))[0] == {"shop": ["a"]}
    path.write_text(f"instances: [{one('b')}]")
    os.utime(path, ns=(stamp, stamp))
    assert (await fetched(files))[0] == {"shop": ["b"]}


async def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    files = Files(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(f"instances: [{one('a')}]")
    os.utime(path, (1_000_000, 1_000_000))
    first = await files.fetch()
    assert (await files.fetch())["shop"] is first["shop"]


async def test_two_files_for_one_tenant(tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(JSON)
    (tmp_path / "shop.yaml").write_text(f"instances: [{one('a')}]")
    assert await fetched(Files(tmp_path)) == (
        {"shop": ["a"]},
        "shop.json: left out, there is another file for shop",
    )


async def test_a_file_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(FILE_LIMIT + 1)
    (tmp_path / "noise.json").write_bytes(b'{"a": \xff}')
    found, problem = await fetched(Files(tmp_path))
    assert found == {"large": [], "noise": []}
    assert problem == f"large.yaml: larger than {FILE_LIMIT} bytes; noise.json: byte 6 is not UTF-8"


async def test_a_directory_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    async with running(open_catalog({"directory": str(tmp_path / "none"), "period": "10ms"})) as listener:
        await listener.until(lambda: bool(listener.reasons), "a failure", 10)
    assert listener.told == []
    assert "No such file" in listener.reasons[0]


def test_options() -> None:
    options = read_options(FileOptions, "file", {"directory": "/tmp/a"})  # noqa: S108 - nothing is written
    assert options.period == PERIOD <= 0.5, "a change is to be seen within a second"
    with pytest.raises(InvalidSetting, match="catalog file: directory is missing"):
        open_catalog({})
