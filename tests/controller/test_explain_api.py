"""Explanations over a real socket: what is asked, what is supposed, and what is refused."""

import asyncio
from typing import Any

import pytest

from amalgam8.clients.http import Http, Refusal
from amalgam8.clients.registry import Registration
from amalgam8.controller.catalogue import Catalogue
from amalgam8.model.caller import caller
from amalgam8.model.instance import Endpoint
from amalgam8.model.schema import rule_schema
from tests.controller.rules import delay, document
from tests.controller.serving import Controller, running
from tests.registry import kit

JASON = {"Cookie": "user=jason"}


def ask(**members: Any) -> dict[str, Any]:
    return {"source": {"name": "web", "tags": ["v1"]}, "destination": "reviews", "path": "/1", **members}


async def asked(controller: Controller, **members: Any) -> dict[str, Any]:
    return await controller.client.explain(ask(**members))


def versions(found: dict[str, Any]) -> list[tuple[tuple[str, ...], float]]:
    return [(tuple(one["tags"]), one["probability"]) for one in found["versions"]]


async def test_a_call_is_explained() -> None:
    async with running() as controller:
        jason = document(version="v2", id="jason", priority=2, match={"headers": {"Cookie": "user=jason"}})
        await controller.client.create([document(id="default"), jason, delay("reviews", id="slow")])
        found = await asked(controller, headers=JASON)
        assert versions(found) == [(("v2",), 1.0)]
        assert found["versions"][0]["delays"] == [{"seconds": 7.0, "probability": 1.0}]
        assert found["versions"][0]["rules"] == ["jason", "slow"]
        assert found["revision"] == 1
        other = await asked(controller, headers={"cookie": "user=bob"})
        assert versions(other) == [(("v1",), 1.0)]
        verdict = next(rule for rule in other["rules"] if rule["id"] == "jason")
        assert verdict["reasons"] == [
            {
                "path": "$.match.headers.Cookie",
                "wanted": "user=jason",
                "found": "user=bob",
                "text": "the header Cookie is 'user=bob', and 'user=jason' is not found in it",
                "parts": [],
            }
        ]


async def test_instances_come_from_the_registry() -> None:
    async with kit.running() as registry:
        catalogue = Catalogue(lambda: 0.0, lambda _: Http(f"http://127.0.0.1:{registry.port}"))
        async with running(catalogue=catalogue) as controller, asyncio.TaskGroup() as tasks:
            granted = await registry.client.register(
                Registration("reviews", Endpoint("http", "10.0.0.1:1"), 60, tags=("v1",))
            )
            task = tasks.create_task(catalogue.run())
            await controller.client.create([document(id="r", version="v2")])
            found = await asked(controller)
            assert found["versions"][0]["refusal"] == {
                "kind": "unavailable",
                "status": 503,
                "service": "reviews",
                "rule": "r",
            }
            now = await asked(controller, without=["r"])
            assert now["versions"][0]["instances"] == [granted.id]
            assert now["notes"] == []
            unknown = await asked(controller, destination="nobody")
            assert unknown["refusal"]["kind"] == "unknown"
            task.cancel()


async def test_rules_can_be_supposed_and_left_out() -> None:
    async with running() as controller:
        await controller.client.create([document(id="default"), delay("reviews", id="slow")])
        found = await asked(controller, **{"with": [document(id="default", version="v3")]})
        assert versions(found) == [(("v3",), 1.0)]
        found = await asked(controller, **{"with": [document(version="v4", priority=9)], "without": ["slow"]})
        assert versions(found) == [(("v4",), 1.0)]
        assert found["versions"][0]["delays"] == []
        assert [rule["effects"][0]["state"] for rule in found["rules"]] == ["acts", "hidden"]
        there = await controller.client.rules()
        assert (there.revision, len(there.rules)) == (1, 2)


async def test_what_is_explained_is_what_the_sidecar_has() -> None:
    """An explanation costs no compilation that the sidecar's Plan has had, and no place among callers."""
    async with running() as controller:
        await controller.client.create([document(id="default")])
        tenant = await controller.tenants.get("default")
        tenant.plans.plan(caller("web", ["v1"]))
        before = controller.metrics.show()
        await asked(controller)
        line = b'a8_controller_compilations_total{tenant="default"} 1.0'
        assert line in before
        assert line in controller.metrics.show()


@pytest.mark.parametrize(
    ("members", "code", "words"),
    [
        ({"destinatoin": "x"}, "invalid_rule", r"\$.destinatoin: unknown member; did you mean destination?"),
        ({"destination": 7}, "invalid_json", r"\$.destination: expected text"),
        ({"destination": "a b"}, "invalid_rule", r"\$.destination: holds a slash"),
        ({"destination": "", "path": None}, "invalid_rule", r"\$.path: is missing"),
        ({"path": "x"}, "invalid_rule", r"\$.path: must begin with /"),
        ({"path": "/ü"}, "invalid_rule", r"\$.path: must be a path as it stands in a URL"),
        ({"path": "/" + "x" * 9000}, "invalid_rule", r"\$.path: is longer than 8192 bytes"),
        ({"method": "G E"}, "invalid_rule", r"\$.method: is no HTTP method"),
        ({"headers": {"A B": "x"}}, "invalid_rule", r"\$.headers.A B: is no header name"),
        ({"headers": {"A": "x\n"}}, "invalid_rule", r"\$.headers.A: must be at most"),
        ({"headers": {f"A{i}": "" for i in range(101)}}, "invalid_rule", r"\$.headers: 101 headers"),
        ({"headers": {"A": 1}}, "invalid_json", r"\$.headers.A: expected text"),
        ({"source": {"name": "w", "tag": []}}, "invalid_rule", r"\$.source.tag: unknown member"),
        ({"with": {}}, "invalid_json", r"\$.with: expected a list of rules"),
        ({"with": [{"destination": "x"}]}, "invalid_rule", r"\$.with\[0\]: has neither route nor actions"),
        ({"with": [document(id="a"), document(id="a")]}, "invalid_rule", r"\$.with\[1\].id: the same id"),
        ({"with": [document()] * 501}, "invalid_rule", r"\$.with: 501 rules; at most 500"),
        ({"without": ["nobody"]}, "rule_not_found", "there is no rule nobody"),
        ({"without": "x"}, "invalid_json", r"\$.without: expected a list of texts"),
    ],
)
async def test_a_wrong_question_is_told_where(members: dict[str, Any], code: str, words: str) -> None:
    async with running() as controller:
        with pytest.raises(Refusal, match=words) as refused:
            await asked(controller, **members)
        assert refused.value.kind == code
        assert refused.value.status == (404 if code == "rule_not_found" else 400)


async def test_a_body_has_a_limit() -> None:
    async with running() as controller:
        with pytest.raises(Refusal) as refused:
            await asked(controller, headers={"A": "x" * 2_000_000})
        assert refused.value.status == 413


async def test_the_whole_path_will_do() -> None:
    async with running() as controller:
        uri = {**document(id="api"), "route": {"backends": [{"tags": ["v2"]}], "uri": {"prefix": "/api"}}}
        await controller.client.create([uri])
        found = await controller.client.explain({"path": "/api/x"})
        assert (found["service"], found["addressed"], versions(found)) == ("reviews", "uri", [(("v2",), 1.0)])


async def test_the_language_is_served_as_a_schema() -> None:
    async with running() as controller:
        answer = await controller.http.request("GET", "/v1/schema/rules.json")
        assert answer.headers["content-type"] == "application/schema+json"
        assert answer.json() == rule_schema()
