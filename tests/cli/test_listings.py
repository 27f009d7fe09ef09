import json
from typing import Any

import pytest
import yaml

from tests.cli.standin import Cli

ROUTES = [
    {
        "id": "a",
        "priority": 3,
        "destination": "reviews",
        "match": {
            "source": {"name": "productpage", "tags": ["v1"]},
            "headers": {"Cookie": ".*?user=jason"},
        },
        "route": {"backends": [{"tags": ["v2"]}]},
    },
    {
        "id": "b",
        "priority": 2,
        "destination": "reviews",
        "match": {"headers": {"Foo": "bar"}},
        "route": {"backends": [{"tags": ["v2"], "weight": 0.5}, {"tags": ["v3"]}]},
    },
    {
        "id": "c",
        "priority": 1,
        "destination": "reviews",
        "route": {"backends": [{"tags": ["v3"], "weight": 0.25}, {"tags": ["version=v1", "x"]}]},
    },
    {"id": "d", "priority": 0, "destination": "reviews", "route": {"backends": [{"tags": ["v9"]}]}},
]
SELECTORS = [
    'v2( source=productpage:v1,user="jason")',
    'v2(header="Foo:bar",weight=0.5)',
    'v3(header="Foo:bar")',
    "v3(weight=0.25)",
]


async def test_route_list_as_a_table(a8ctl: Cli) -> None:
    ratings = [
        {"id": "e", "destination": "ratings", "route": {"backends": [{"name": "old", "tags": ["v1"]}]}}
    ]
    a8ctl.server.answers[("GET", "/v1/rules/routes")] = {"services": {"reviews": ROUTES, "ratings": ratings}}
    ran = await a8ctl("route-list")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == lines[2] == lines[-1]
    assert set(lines[0]) == {"+", "-"}
    assert [cell.strip() for cell in lines[1].split("|")[1:-1]] == [
        "Service",
        "Default Version",
        "Version Selectors",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["ratings", "old:v1", ""]
    assert [cell.strip() for cell in lines[4].split("|")[1:-1]] == [
        "reviews",
        "version=v1,x",
        ", ".join(SELECTORS),
    ]


@pytest.mark.parametrize("flags", [("-o", "json"), ("--json",), ("--output=yaml",)])
async def test_route_list_for_machines(a8ctl: Cli, flags: tuple[str, ...]) -> None:
    a8ctl.server.answers[("GET", "/v1/rules/routes")] = {"services": {"reviews": ROUTES, "ratings": []}}
    ran = await a8ctl("route-list", "-s", "reviews", *flags)
    read: Any = yaml.safe_load if "yaml" in flags[0] else json.loads
    assert read(ran.out) == [{"service": "reviews", "default": "version=v1,x", "selectors": SELECTORS}]


ACTIONS = [
    {
        "id": "f1",
        "priority": 10,
        "destination": "ratings",
        "match": {"source": {"name": "reviews", "tags": ["v2"]}, "headers": {"Cookie": "user=jason"}},
        "actions": [
            {"action": "delay", "duration": 7.0, "probability": 0.5, "tags": ["v1"]},
            {"action": "abort", "return_code": 400},
            {"action": "trace", "tags": ["v1"], "log_key": "k"},
        ],
    },
    {
        "id": "f2",
        "priority": 5,
        "destination": "details",
        "actions": [{"action": "abort", "return_code": 503}],
    },
    {"id": "r", "priority": 5, "destination": "details", "route": {"backends": [{"tags": ["v1"]}]}},
]


async def test_action_list(a8ctl: Cli) -> None:
    a8ctl.server.answers[("GET", "/v1/rules")] = {"rules": ACTIONS, "revision": 1}
    ran = await a8ctl("action-list", "-s", "ratings", "-d", "details", "-i", "f1", "-t", "x")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines()]
    assert rows[1] == ["Destination", "Source", "Headers", "Priority", "Actions", "Rule ID"]
    assert rows[3] == ["details", "", "", "5", "(1->abort=503)", "f2"]
    actions = "v1(0.5->delay=7), (1->abort=400), v1(trace)"
    assert rows[4] == ["ratings", "reviews:v2", "Cookie:user=jason", "10", actions, "f1"]
    assert a8ctl.server.seen[0].query == [
        ("id", "f1"),
        ("tag", "x"),
        ("destination", "details"),
        ("destination", "ratings"),
    ]
    listed = json.loads((await a8ctl("action-list", "-o", "json")).out)
    assert listed[1] == {
        "destination": "ratings",
        "id": "f1",
        "priority": 10,
        "match": "reviews:v2",
        "actions": actions.split(", "),
        "headers": ["Cookie:user=jason"],
    }


async def test_service_list_counts_instances_by_version(a8ctl: Cli) -> None:
    def instance(number: int, service: str, *tags: str) -> dict[str, object]:
        endpoint = {"type": "http", "value": f"127.0.0.1:{number}"}
        return {"id": str(number), "service_name": service, "endpoint": endpoint, "tags": tags}

    a8ctl.server.answers[("GET", "/api/v1/instances")] = {
        "instances": [
            instance(1, "reviews", "v2"),
            instance(2, "reviews", "v1", "a"),
            instance(3, "reviews", "a", "v1"),
            instance(4, "details"),
        ]
    }
    ran = await a8ctl("service-list")
    assert ran.out == (
        "+---------+------------------+\n"
        "| Service | Instances        |\n"
        "+---------+------------------+\n"
        "| details | -untagged-(1)    |\n"
        "| reviews | a,v1(2), v2(1)   |\n"
        "+---------+------------------+\n"
    ).replace("  |\n", "|\n").replace("--+\n", "+\n")
    assert a8ctl.server.seen[0].query == [("status", "ALL")]
    assert json.loads((await a8ctl("service-list", "--json")).out) == [
        {"service": "details", "instances": ["-untagged-(1)"]},
        {"service": "reviews", "instances": ["a,v1(2)", "v2(1)"]},
    ]


async def test_sidecar_list(a8ctl: Cli) -> None:
    row = {
        "id": "5c",
        "service": "reviews",
        "tags": ["v1", "version=v1"],
        "proxy": "envoy",
        "revision": 4,
        "state": "rejected",
        "reason": "no\nway",
        "age": 2.4,
    }
    a8ctl.server.answers[("GET", "/v1/sidecars")] = {"sidecars": [row]}
    ran = await a8ctl("sidecar-list")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines()]
    assert rows[1] == ["Service", "Tags", "Proxy", "Revision", "State", "Reason", "Age", "Id"]
    assert rows[3] == ["reviews", "v1,version=v1", "envoy", "4", "rejected", "no\\nway", "2s", "5c"]
    assert json.loads((await a8ctl("sidecar-list", "-o", "json")).out) == [row]
    assert yaml.safe_load((await a8ctl("sidecar-list", "-o", "yaml")).out) == [row]


async def test_info_shows_settings_but_no_token(a8ctl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A8_CONTROLLER_TOKEN", "secret")
    for command in ("info", "i"):
        ran = await a8ctl(command, "-o", "json")
        assert json.loads(ran.out) == {
            "A8_CONTROLLER_URL": a8ctl.server.url,
            "A8_CONTROLLER_TOKEN": "(set)",
            "A8_REGISTRY_URL": a8ctl.server.url,
            "A8_REGISTRY_TOKEN": "",
            "A8_CA_CERT": "",
            "A8_DEBUG": "false",
        }
    assert "| Env. Variable" in (await a8ctl("info")).out


async def test_an_answer_that_makes_no_sense(a8ctl: Cli) -> None:
    a8ctl.server.answers[("GET", "/v1/rules/routes")] = {"services": {"reviews": [{"priority": "high"}]}}
    ran = await a8ctl("route-list")
    assert (ran.code, ran.err.count("\n")) == (5, 1)
    a8ctl.server.answers[("GET", "/v1/rules/routes")] = {"Services": 3}
    assert (await a8ctl("route-list")).code == 5
