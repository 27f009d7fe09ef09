"""/v1/rollouts over the wire."""

import signal
from pathlib import Path
from typing import Any

import pytest

from amalgam8.clients.http import Http, Refusal
from amalgam8.web.auth import Auth, Trusted
from tests.conftest import eventually
from tests.controller.process import controller
from tests.controller.rules import document
from tests.controller.serving import running

ORDER = {"service": "reviews", "version": ["v2"], "interval": 5}


async def test_start_look_and_say() -> None:
    async with running() as served:
        ask = served.http.request
        await served.client.create([document(id="base")])
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
        await served.rollouts.look()
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
    async with running() as served:
        await served.client.create([document(id="base")])
        path, _, query = path.partition("?")
        pairs = [tuple(query.split("="))] if query else []
        with pytest.raises(Refusal) as refused:
            await served.http.request(method, path, body, query=pairs)  # type: ignore[arg-type]
        assert (refused.value.status, refused.value.kind) == (status, kind)
        assert (await served.http.request("GET", "/v1/rollouts")).json() == {"rollouts": []}


async def test_a_second_one_is_a_conflict() -> None:
    async with running() as served:
        await served.client.create([document(id="base")])
        await served.http.request("POST", "/v1/rollouts", ORDER)
        with pytest.raises(Refusal) as refused:
            await served.http.request("POST", "/v1/rollouts", ORDER)
        assert (refused.value.status, refused.value.kind) == (409, "rollout_running")


async def test_tenants_do_not_see_each_other() -> None:
    async with running(auth=Auth([Trusted(admin=False)])) as served:
        blue, red = ({"Authorization": f"Bearer {name}"} for name in ("blue", "red"))
        await served.http.request("POST", "/v1/rules", {"rules": [document(id="base")]}, headers=blue)
        made = (await served.http.request("POST", "/v1/rollouts", ORDER, headers=blue)).json()
        assert (await served.http.request("GET", "/v1/rollouts", headers=red)).json() == {"rollouts": []}
        for method, path in (("GET", ""), ("POST", "/abort")):
            with pytest.raises(Refusal) as refused:
                await served.http.request(method, f"/v1/rollouts/{made['id']}{path}", headers=red)
            assert refused.value.status == 404
        with pytest.raises(Refusal) as refused:
            await served.http.request("GET", "/v1/rollouts")
        assert refused.value.status == 401


async def test_a_rollout_outlives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "rules.db"
    async with controller(path) as process:
        http = Http(f"http://127.0.0.1:{process.port}")
        await http.request("POST", "/v1/rules", {"rules": [document(id="base")]})
        order = ORDER | {"interval": 3600}
        made = (await http.request("POST", "/v1/rollouts", order)).json()

        async def shared() -> bool:
            rules = (await http.request("GET", "/v1/rules")).json()["rules"]
            return [rule["id"] for rule in rules] == [made["rule"], "base"]

        await eventually(shared)
        process.signal(signal.SIGKILL)
        await process.ended()
        await http.close()
    async with controller(path) as process:
        http = Http(f"http://127.0.0.1:{process.port}")
        found = (await http.request("GET", f"/v1/rollouts/{made['id']}")).json()
        assert (found["state"], found["step"], found["events"]) == ("running", 0, made["events"])
        await http.request("POST", f"/v1/rollouts/{made['id']}/abort")

        async def aborted() -> bool:
            return bool(
                (await http.request("GET", f"/v1/rollouts/{made['id']}")).json()["state"] == "aborted"
            )

        await eventually(aborted)
        rules = (await http.request("GET", "/v1/rules")).json()["rules"]
        assert [rule["id"] for rule in rules] == ["base"]
        await http.close()
