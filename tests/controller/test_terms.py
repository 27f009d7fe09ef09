"""What every write has in common: waiting for sidecars, and who wrote why."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from amalgam8.clients.http import Answer
from amalgam8.model.caller import Caller, caller
from amalgam8.model.report import PlanStamp, SidecarReport
from tests.conftest import eventually
from tests.controller.rules import document
from tests.controller.serving import Controller, running

SIDECAR = "123e4567-e89b-42d3-a456-42661417400{}"
WEB, API = caller("web", ["v1"]), caller("api")


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    async with running() as found:
        yield found


async def ask(controller: Controller, method: str, path: str, body: Any = None, **headers: Any) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await controller.http.request(method, path, body, headers=sent, expect=range(400, 600), timeout=20)


async def report(controller: Controller, number: int, who: Caller) -> None:
    """The sidecar's proxy has confirmed the newest rules."""
    tenant = await controller.tenants.get("default")
    identity, plan = SIDECAR.format(number), tenant.plans.plan(who)
    stamp = PlanStamp(plan.revision, plan.hash)
    told = SidecarReport(tenant.fleet.key(identity), who.service, who.tags, "envoy", stamp)
    await controller.client.report(identity, told)


async def revision(controller: Controller) -> int:
    return (await controller.tenants.get("default")).mirror.book.revision


async def test_without_terms_answers_are_what_they_were(controller: Controller) -> None:
    await report(controller, 1, WEB)
    answer = await ask(controller, "POST", "/v1/rules", {"rules": [document(id="a")]})
    assert (answer.json(), answer.headers["etag"]) == ({"ids": ["a"]}, '"1"')
    answer = await ask(controller, "PUT", "/v1/rules", {"rules": [document(id="a")]})
    assert (answer.body, answer.headers["etag"]) == (b"", '"2"')
    answer = await ask(controller, "DELETE", "/v1/rules")
    assert (answer.body, answer.headers["etag"]) == (b"", '"3"')


async def test_waiting_ends_with_the_last_report(controller: Controller) -> None:
    await report(controller, 1, WEB)
    await report(controller, 2, API)
    body = {"rules": [document(id="a", source="web"), document("ratings", id="b")]}
    waiting = asyncio.create_task(ask(controller, "POST", "/v1/rules?wait=15s", body))

    async def written() -> bool:
        return await revision(controller) == 1

    await eventually(written)
    await report(controller, 1, WEB)
    assert not waiting.done()
    await report(controller, 2, API)
    answer = await waiting
    assert answer.status == 201
    assert answer.json() == {"ids": ["a", "b"], "revision": 1, "applied": True, "concerned": 2, "missing": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/rules", {"rules": [document(id="a", version="v2", source="web")]}, 200),
        ("DELETE", "/v1/rules?id=a", None, 200),
        ("PUT", "/v1/rules/routes/reviews", {"rules": [document(version="v3")]}, 201),
        ("DELETE", "/v1/rules/routes/reviews", None, 200),
        ("PUT", "/v1/apply", {"rules": []}, 200),
        ("POST", "/v1/rollback", {"revision": 0}, 200),
    ],
)
async def test_who_is_missing(controller: Controller, method: str, path: str, body: Any, status: int) -> None:
    await ask(controller, "POST", "/v1/rules", {"rules": [document(id="a", source="web")]})
    await report(controller, 1, WEB)
    await report(controller, 2, API)
    sign = "&" if "?" in path else "?"
    answer = await ask(controller, method, f"{path}{sign}wait=0.05", body)
    assert answer.status == status
    found = answer.json()
    assert (found["applied"], found["revision"]) == (False, 2)
    missing = found["missing"]
    assert missing[-1]["id"] == SIDECAR.format(1)
    assert (missing[-1]["state"], missing[-1]["service"], missing[-1]["tags"]) == ("pending", "web", ["v1"])
    # Only those whose Plan the change can alter.
    assert len(missing) == found["concerned"] == (2 if path.endswith("routes/reviews") and body else 1)


async def test_a_rule_says_where_it_is_applied(controller: Controller) -> None:
    before = time.time()
    await report(controller, 1, WEB)
    await ask(controller, "POST", "/v1/rules", {"rules": [document(id="a"), document(id="b", source="x")]})
    await report(controller, 2, API)
    answer = await ask(controller, "GET", "/v1/rules/a/status")
    found = answer.json()
    assert answer.headers["etag"] == '"1"'
    assert {**found, "sidecars": 0} == {
        "id": "a",
        "revision": 1,
        "applied": False,
        "concerned": 2,
        "sidecars": 0,
        "note": "",
    }
    assert [(one["service"], one["state"]) for one in found["sidecars"]] == [
        ("api", "applied"),
        ("web", "pending"),
    ]
    assert set(found["sidecars"][0]) == {"id", "service", "tags", "state", "since", "reason"}
    assert found["sidecars"][0]["since"][:4] >= time.strftime("%Y", time.gmtime(before))
    nobody = (await ask(controller, "GET", "/v1/rules/b/status")).json()
    assert (nobody["sidecars"], nobody["note"]) == ([], "this rule concerns no sidecar that is known")
    assert (await ask(controller, "GET", "/v1/rules/unknown/status")).status == 404


async def test_who_and_why_in_any_script(controller: Controller) -> None:
    body = {"rules": [document(id="a")]}
    await ask(controller, "POST", "/v1/rules", body, A8_Author="Zoë", A8_Comment="naïve")
    await ask(controller, "PUT", "/v1/rules", body, A8_Comment="理由")
    found = (await ask(controller, "GET", "/v1/history")).json()["revisions"]
    assert (found[1]["author"], found[1]["comment"], found[0]["comment"]) == ("Zoë", "naïve", "理由")
    assert (await ask(controller, "GET", "/v1/rules")).json()["rules"][0].get("author") is None
    for header in ({"A8_Author": "x" * 129}, {"A8_Comment": "x" * 1025}, {"A8_Comment": "a\tb"}):
        answer = await ask(controller, "PUT", "/v1/rules", body, **header)
        assert (answer.status, answer.json()["code"]) == (400, "invalid_query")
