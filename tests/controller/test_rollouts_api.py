"""/v1/rollouts over the wire."""

from typing import Any

import pytest

from amalgam8.clients.http import Refusal
from amalgam8.web.auth import Auth, Trusted
from tests.controller.rules import document
from tests.controller.serving import running

ORDER = {"service": "reviews", "version": ["v2"], "interval": 5}


async def test_start_look_and_say() -> None:
    async with running() as controller:
        ask = controller.http.request
        await controller.client.create([document(id="base")])
        answer = await ask("POST", "/v1/rollouts", ORDER, headers={"A8-Author": "ann"})
        assert answer.status == 201
        made = answer.json()
        assert (made["state"], made["share"], made["steps"], made["author"]) == (
            "running",
            5,
            [5, 25, 50, 100],
            "ann",
        )
        assert (made["old"], made["version"], made["max_p99"], made["now"]) == (["v1"], ["v2"], None, None)
        assert made["rule"] == f"rollout-{made['id']}"
        path = f"/v1/rollouts/{made['id']}"
        assert (await ask("GET", path)).json() == made
        assert (await ask("GET", "/v1/rollouts")).json() == {"rollouts": [made]}
        for word, state in (("pause", "paused"), ("resume", "running"), ("abort", "returning")):
            assert (await ask("POST", f"{path}/{word}")).json()["state"] == state
        await controller.rollouts.look()
        gone = (await ask("GET", path)).json()
        assert (gone["state"], gone["share"], gone["reason"]) == ("aborted", 0, "aborted")
        assert [event["text"] for event in gone["events"]] == [
            "started, from v1",
            "paused",
            "resumed",
            "aborted",
            "all calls go to v1 again",
        ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/v1/rollouts", ORDER | {"steps": [5]}, 400, "invalid_input"),
        ("POST", "/v1/rollouts", ORDER | {"stesp": [5]}, 400, "invalid_json"),
        ("POST", "/v1/rollouts", [1], 400, "invalid_json"),
        ("POST", "/v1/rollouts?wait=5s", ORDER, 400, "invalid_query"),
        ("POST", "/v1/rollouts", ORDER | {"service": "nobody"}, 409, "no_default_version"),
        ("GET", "/v1/rollouts/none", None, 404, "rollout_not_found"),
        ("POST", "/v1/rollouts/none/pause", None, 404, "rollout_not_found"),
        ("PUT", "/v1/rollouts", ORDER, 405, "method_not_allowed"),
    ],
)
async def test_what_is_refused(method: str, path: str, body: Any, status: int, kind: str) -> None:
    async with running() as controller:
        await controller.client.create([document(id="base")])
        path, _, query = path.partition("?")
        pairs = [tuple(query.split("="))] if query else []
        with pytest.raises(Refusal) as refused:
            await controller.http.request(method, path, body, query=pairs)  # type: ignore[arg-type]
        assert (refused.value.status, refused.value.kind) == (status, kind)
        assert (await controller.http.request("GET", "/v1/rollouts")).json() == {"rollouts": []}


async def test_a_second_one_is_a_conflict() -> None:
    async with running() as controller:
        await controller.client.create([document(id="base")])
        await controller.http.request("POST", "/v1/rollouts", ORDER)
        with pytest.raises(Refusal) as refused:
            await controller.http.request("POST", "/v1/rollouts", ORDER)
        assert (refused.value.status, refused.value.kind) == (409, "rollout_running")


async def test_tenants_do_not_see_each_other() -> None:
    async with running(auth=Auth([Trusted(admin=False)])) as controller:
        blue, red = ({"Authorization": f"Bearer {name}"} for name in ("blue", "red"))
        await controller.http.request("POST", "/v1/rules", {"rules": [document(id="base")]}, headers=blue)
        made = (await controller.http.request("POST", "/v1/rollouts", ORDER, headers=blue)).json()
        assert (await controller.http.request("GET", "/v1/rollouts", headers=red)).json() == {"rollouts": []}
        for method, path in (("GET", ""), ("POST", "/abort")):
            with pytest.raises(Refusal) as refused:
                await controller.http.request(method, f"/v1/rollouts/{made['id']}{path}", headers=red)
            assert refused.value.status == 404
        with pytest.raises(Refusal) as refused:
            await controller.http.request("GET", "/v1/rollouts")
        assert refused.value.status == 401
