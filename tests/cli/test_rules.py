import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from amalgam8.model.errors import RuleNotFound
from tests.cli.standin import Cli

RULE = {"id": "r1", "destination": "reviews", "route": {"backends": [{"tags": ["v1"]}]}}


@pytest.mark.parametrize("document", [{"rules": [RULE]}, [RULE], RULE, {"rules": [RULE], "revision": 7}])
@pytest.mark.parametrize("suffix", ["json", "yaml", "txt"])
async def test_create_adds_the_wrapper_and_prints_ids(
    a8ctl: Cli, tmp_path: Path, document: object, suffix: str
) -> None:
    a8ctl.server.answers[("POST", "/v1/rules")] = {"ids": ["r1"]}
    file = tmp_path / f"rules.{suffix}"
    file.write_text(json.dumps(document) if suffix == "json" else yaml.safe_dump(document))
    ran = await a8ctl("rule-create", "-f", str(file))
    assert (ran.code, json.loads(ran.out), ran.err) == (0, {"ids": ["r1"]}, "")
    assert "\n  " in ran.out
    assert a8ctl.server.seen[0].body == {"rules": [RULE]}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([RULE]).encode(),
        b"\xef\xbb\xbf" + json.dumps([RULE]).encode(),
        yaml.safe_dump(RULE).encode(),
        b"{id: r1, destination: reviews, route: {backends: [{tags: [v1]}]}}",
        json.dumps([RULE]).encode() + b"\n.json\nwhat comes after does not count",
    ],
)
async def test_update_reads_standard_input(a8ctl: Cli, type_in: Callable[[bytes], None], text: bytes) -> None:
    a8ctl.server.answers[("PUT", "/v1/rules")] = None
    type_in(text)
    ran = await a8ctl("rule-update")
    assert (ran.code, ran.out, ran.err) == (0, "Updated 1 rule.\n", "")
    assert a8ctl.server.seen[0].body == {"rules": [RULE]}


async def test_a_refusal_is_one_line_and_code_1(a8ctl: Cli, tmp_path: Path) -> None:
    a8ctl.server.answers[("PUT", "/v1/rules")] = RuleNotFound("no rule has the id\nr1\x1b[2J")
    file = tmp_path / "rules.json"
    file.write_text(json.dumps(RULE))
    ran = await a8ctl("rule-update", "-f", str(file))
    assert (ran.code, ran.out, ran.err) == (1, "", "a8ctl: no rule has the id r1\\x1b[2J\n")


async def test_get_prints_yaml_or_json(a8ctl: Cli) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": [RULE], "revision": 3}
    ran = await a8ctl("rule-get")
    assert ran.code == 0
    assert yaml.safe_load(ran.out) == {"rules": [RULE], "revision": 3}
    ran = await a8ctl("rule-get", "-o", "json", "-i", "r1", "-i", "r2", "-t", "a", "-d", "reviews")
    assert json.loads(ran.out) == {"rules": [RULE], "revision": 3}
    assert a8ctl.server.seen[1].query == [
        ("id", "r1"),
        ("id", "r2"),
        ("tag", "a"),
        ("destination", "reviews"),
    ]


async def test_what_get_prints_update_takes(a8ctl: Cli, type_in: Callable[[bytes], None]) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": [RULE], "revision": 3}
    a8ctl.server.answers[("PUT", "/v1/rules")] = None
    ran = await a8ctl("rule-get")
    type_in(ran.out.encode())
    assert (await a8ctl("rule-update")).code == 0
    assert a8ctl.server.seen[-1].body == {"rules": [RULE]}


async def test_delete_by_filters_and_positions(a8ctl: Cli) -> None:
    a8ctl.server.answers[("DELETE", "/v1/rules")] = None
    ran = await a8ctl("rule-delete", "r1", "-i", "r2", "-t", "a", "-d", "b")
    assert (ran.code, ran.out) == (0, "Deleted.\n")
    assert a8ctl.server.seen[0].query == [("id", "r1"), ("id", "r2"), ("tag", "a"), ("destination", "b")]


async def test_delete_without_selector_shows_help(a8ctl: Cli) -> None:
    ran = await a8ctl("rule-delete")
    assert ran.code == 2
    assert "Usage: a8ctl rule-delete" in ran.err
    assert a8ctl.server.seen == []


@pytest.mark.parametrize(
    ("typed", "deleted"), [(b"y\n", True), (b"YES\n", True), (b"n\n", False), (b"", False)]
)
async def test_delete_all_asks(
    a8ctl: Cli, type_in: Callable[[bytes], None], typed: bytes, deleted: bool
) -> None:
    a8ctl.server.answers[("DELETE", "/v1/rules")] = None
    type_in(typed)
    ran = await a8ctl("rule-delete", "-a")
    assert "[y/N]" in ran.err
    assert ran.code == (0 if deleted else 1)
    assert [seen.query for seen in a8ctl.server.seen] == ([[]] if deleted else [])


async def test_delete_all_by_force_does_not_ask(a8ctl: Cli, type_in: Callable[[bytes], None]) -> None:
    a8ctl.server.answers[("DELETE", "/v1/rules")] = None
    type_in(b"")
    ran = await a8ctl("rule-delete", "--all", "--force")
    assert (ran.code, ran.err) == (0, "")


async def test_all_and_a_filter_contradict_each_other(a8ctl: Cli) -> None:
    ran = await a8ctl("rule-delete", "-a", "-f", "-d", "reviews")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert a8ctl.server.seen == []
