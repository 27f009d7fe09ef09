"""The controller's client: what it sends for each call, and what it makes of the answers."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.clients.controller import ControllerClient, How
from amalgam8.clients.http import Http, Refusal
from amalgam8.model.caller import Caller
from amalgam8.model.report import SidecarReport
from amalgam8.model.stream import Hello
from amalgam8.routing.plan import DestinationPlan, PlanDelta, PlanSnapshot
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style
from tests.wire import ControllerStandIn, Parts, served

RULE = {"id": "a", "priority": 1, "member_of_tomorrow": True}


class Recorder:
    """Answers every request with the same, and keeps what was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[str, str, list[tuple[str, str]], Any]] = []
        self._answer = answer
        methods = ["GET", "POST", "PUT", "DELETE"]
        routes = [Route("/{path:path}", self._take, methods=methods)]
        self.app = Api(routes, style=controller_style, body_limit=10_000)

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        query = request.query_params.multi_items()
        path = request.scope["raw_path"].decode()
        self.asked.append((request.method, path, query, json.loads(body) if body else None))
        return json_response(self._answer)


@contextlib.asynccontextmanager
async def client(app: Api) -> AsyncIterator[ControllerClient]:
    async with served(app) as port:
        http = Http(f"http://127.0.0.1:{port}")
        try:
            yield ControllerClient(http)
        finally:
            await http.close()


async def test_rules_are_created_updated_and_deleted() -> None:
    recorder = Recorder({"ids": ["a"]})
    async with client(recorder.app) as controller:
        assert (await controller.create([RULE])).ids == ("a",)
        await controller.update([RULE])
        await controller.delete(ids=["a", "b"], tags=["t"], destinations=["d"])
        await controller.delete()
    filters = [("id", "a"), ("id", "b"), ("tag", "t"), ("destination", "d")]
    assert recorder.asked == [
        ("POST", "/v1/rules", [], {"rules": [RULE]}),
        ("PUT", "/v1/rules", [], {"rules": [RULE]}),
        ("DELETE", "/v1/rules", filters, None),
        ("DELETE", "/v1/rules", [], None),
    ]


async def test_on_which_terms_it_is_written() -> None:
    how = How(wait=0.5, confirm_within=30, revision=7, author="Zoë", comment="why")
    recorder = Recorder({"revision": 8, "applied": False, "missing": [], "of_tomorrow": 1})
    async with client(recorder.app) as controller:
        wrote = await controller.update([RULE], how)
        assert (wrote.revision, wrote.applied, wrote.missing) == (8, False, ())
        await controller.rollback(3, how)
        await controller.confirm(3)
        await controller.replace_for("routes", "a/b", [RULE], how)
        await controller.delete_for("actions", "a/b", how)
        await controller.apply([RULE], tags=["t"], prune=False, dry_run=True, how=how)
    terms = [("wait", "0.5"), ("confirm_within", "30")]
    assert recorder.asked == [
        ("PUT", "/v1/rules", terms, {"rules": [RULE]}),
        ("POST", "/v1/rollback", terms, {"revision": 3}),
        ("POST", "/v1/confirm", [], {"revision": 3}),
        ("PUT", "/v1/rules/routes/a%2Fb", terms, {"rules": [RULE]}),
        ("DELETE", "/v1/rules/actions/a%2Fb", terms, None),
        (
            "PUT",
            "/v1/apply",
            [("tag", "t"), ("prune", "false"), ("dry_run", "true"), *terms],
            {"rules": [RULE]},
        ),
    ]
    assert how.headers() == {"A8-Author": "Zoë", "A8-Comment": "why", "If-Match": '"7"'}


async def test_a_write_without_a_body_tells_its_revision() -> None:
    async with client(Recorder(None).app) as controller:
        assert (await controller.update([RULE])).revision == 0


async def test_members_of_a_newer_controller_survive() -> None:
    recorder = Recorder({"rules": [RULE], "revision": 5})
    async with client(recorder.app) as controller:
        found = await controller.rules(tags=["t"])
        assert (found.rules, found.revision) == ((RULE,), 5)
        assert recorder.asked[0][2] == [("tag", "t")]


async def test_rules_by_destination() -> None:
    recorder = Recorder({"services": {"reviews": [RULE]}})
    async with client(recorder.app) as controller:
        assert await controller.routes() == {"reviews": (RULE,)}
        assert await controller.actions() == {"reviews": (RULE,)}
    assert [path for _, path, _, _ in recorder.asked] == ["/v1/rules/routes", "/v1/rules/actions"]


async def test_sidecars_are_rows() -> None:
    row = {"id": "i", "service": "web", "tags": ["v1"], "proxy": "envoy", "revision": 3}
    recorder = Recorder({"sidecars": [{**row, "state": "applied", "reason": "", "age": 1.5, "new": 1}]})
    async with client(recorder.app) as controller:
        (found,) = await controller.sidecars()
        assert (found.service, found.tags, found.revision, found.age) == ("web", ("v1",), 3, 1.5)


async def test_reports_go_to_the_sidecars_own_place() -> None:
    recorder = Recorder()
    async with client(recorder.app) as controller:
        await controller.report("a/b", SidecarReport("key", "web", ("v1",), "envoy"))
    method, path, _, body = recorder.asked[0]
    assert (method, path) == ("PUT", "/v1/sidecars/a%2Fb")
    assert body == {
        "key": "key",
        "service": "web",
        "tags": ["v1"],
        "proxy": "envoy",
        "plan": {"revision": 0, "hash": ""},
        "registry": {"epoch": "", "revision": 0},
        "rejected": [],
        "leaving": False,
        "traffic": None,
    }


async def test_a_refused_report_is_a_refusal() -> None:
    stand_in = ControllerStandIn()
    stand_in.refuse = 403
    async with client(stand_in.app) as controller:
        with pytest.raises(Refusal, match="not now"):
            await controller.report("i", SidecarReport("key", "web"))


async def test_the_plan_is_watched_as_the_caller() -> None:
    stand_in = ControllerStandIn(Parts("e", {"reviews": DestinationPlan()}))
    async with client(stand_in.app) as controller:
        watch = controller.watch_plan("the-id", Caller("web", ("v1", "v2")))
        async with contextlib.aclosing(watch.events()) as events:
            assert await anext(events) == Hello("e", 1, 1, "the-key")
            assert await anext(events) == PlanSnapshot(1, "hash-1", {"reviews": DestinationPlan()})
            stand_in.told.change({}, "reviews")
            assert await anext(events) == PlanDelta(2, "hash-2", {}, ("reviews",))
    assert stand_in.asked == [{"id": "the-id", "service": "web", "tags": "v1,v2", "protocol": "1"}]
