"""Leasing shares: what is said and when, what is followed, and what stays when nobody answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.model.report import PlanStamp
from amalgam8.model.slices import FIRST_SHARE, SliceReport, Slices
from amalgam8.routing.plan import DestinationPlan, LimitEntry, PlanLimit
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar import slices
from amalgam8.sidecar.follow import Seen
from amalgam8.sidecar.proxy import Demand
from amalgam8.sidecar.slices import SliceLease, budgets
from amalgam8.sidecar.view import SeenPlan
from amalgam8.web.app import Api, json_response
from amalgam8.web.errors import controller_style
from tests.conftest import eventually
from tests.sidecar.support import StandInProxy
from tests.wire import served

PART = DestinationPlan(limits=(LimitEntry(rule="l", limits=(PlanLimit(5), PlanLimit(100, budget="l/1"))),))


class Setting:
    """A controller that answers ``answer``, a proxy, and a Plan."""

    def __init__(self) -> None:
        self.reports: list[SliceReport] = []
        self.answer: Any = Slices({}, 0.1)
        self.proxy = StandInProxy()
        self.seen = Latest(Seen())
        self.told = Latest(Slices())
        self.app = Api(
            [Route("/v1/sidecars/{id}/limits", self._take, methods=["PUT"])],
            style=controller_style,
            body_limit=10_000,
        )

    async def _take(self, request: Request) -> Response:
        assert request.path_params["id"] == "me"
        self.reports.append(msgspec.json.decode(await request.body(), type=SliceReport))
        return json_response(self.answer, 200 if isinstance(self.answer, Slices) else 503)

    @contextlib.asynccontextmanager
    async def leasing(self) -> AsyncIterator[None]:
        async with served(self.app) as port:
            http = Http(f"http://127.0.0.1:{port}")
            client = ControllerClient(http)
            lease = SliceLease(client, "me", self.seen, Latest("k"), self.told, self.proxy)
            task = asyncio.create_task(lease.run())
            try:
                yield
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait([task])
                await http.close()

    def plan(self, **parts: DestinationPlan) -> None:
        self.seen.set(Seen(SeenPlan(parts, PlanStamp(1, "h"))))

    async def shares(self, **expected: float) -> None:
        wanted = {name.replace("_", "/"): share for name, share in expected.items()}

        async def found() -> bool:
            return dict(self.proxy.slices.value) == wanted

        await eventually(found, what=f"shares {wanted}")

    async def said(self, rate: bool, passed: int) -> None:
        async def found() -> bool:
            last = self.reports[-1].budgets[0] if self.reports and self.reports[-1].budgets else None
            return last is not None and bool(last.rate) == rate and last.passed == passed

        await eventually(found, what=f"a report of {passed} passed")


async def test_a_new_budget_begins_with_the_first_share_and_is_reported_at_once() -> None:
    setting = Setting()
    async with setting.leasing():
        setting.plan(shop=PART)
        await setting.shares(l_1=FIRST_SHARE)
        await setting.said(rate=False, passed=0)
        report = setting.reports[0]
        assert (report.key, len(report.epoch)) == ("k", 16)
        assert [(one.budget, one.share) for one in report.budgets] == [("l/1", FIRST_SHARE)]


async def test_shares_come_with_answers_and_with_the_stream() -> None:
    setting = Setting()
    setting.answer = Slices({"l/1": 0.25}, 0.1)
    async with setting.leasing():
        setting.plan(shop=PART)
        await setting.shares(l_1=0.25)
        setting.told.set(Slices({"l/1": 0.75, "other/0": 1.0}))
        await setting.shares(l_1=0.75)
        setting.plan()
        await setting.shares()
        setting.plan(shop=PART)
        await setting.shares(l_1=0.25)


async def test_what_came_and_passed_is_said_until_nothing_comes_any_more() -> None:
    setting = Setting()
    async with setting.leasing():
        setting.plan(shop=PART)
        await setting.said(rate=False, passed=0)
        setting.proxy.came = {"l": Demand(10, 7), "other": Demand(5, 5)}
        await setting.said(rate=True, passed=7)
        await setting.said(rate=False, passed=7)
        setting.proxy.came = {"l": Demand(3, 2)}  # the proxy has begun anew
        await setting.said(rate=True, passed=9)


@pytest.mark.parametrize("answer", [{"error": "no"}, None])
async def test_without_the_controller_a_share_stays(answer: Any) -> None:
    setting = Setting()
    setting.answer = Slices({"l/1": 0.25}, 0.1)
    async with setting.leasing():
        setting.plan(shop=PART)
        await setting.shares(l_1=0.25)
        setting.answer = answer
        before = len(setting.reports)
        setting.proxy.came = {"l": Demand(10, 7)}

        async def asked() -> bool:
            return len(setting.reports) > before

        await eventually(asked)
        assert setting.proxy.slices.value == {"l/1": 0.25}
        setting.answer = Slices({"l/1": 0.5}, 0.1)
        setting.proxy.came = {"l": Demand(20, 17)}
        await setting.shares(l_1=0.5)


async def test_a_quiet_sidecar_says_so_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "KEEP", 0.2)
    setting = Setting()
    async with setting.leasing():
        setting.plan(shop=PART)

        async def several() -> bool:
            return len(setting.reports) >= 3

        await eventually(several)


def test_budgets_of_a_plan_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "BUDGETS_LIMIT", 1)
    entry = LimitEntry(rule="a", limits=(PlanLimit(1, budget="a/0"),))
    assert budgets({"shop": PART, "stock": DestinationPlan(limits=(entry,))}) == {"a/0": "a"}
