"""Reports to the controller: at each change, when it is back, and again after a failure."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from amalgam8.clients.controller import ControllerClient
from amalgam8.clients.http import Http
from amalgam8.model.caller import Caller
from amalgam8.model.report import PlanStamp, RegistryStamp, Rejection
from amalgam8.model.traffic import Count, Tally, Traffic
from amalgam8.runtime.latest import Latest
from amalgam8.sidecar import report
from amalgam8.sidecar.proxy import Confirmed, Stamp
from amalgam8.sidecar.report import Reporter
from tests.conftest import eventually
from tests.wire import ControllerStandIn, served

REVISION_3 = Confirmed(Stamp(PlanStamp(3, "h3"), RegistryStamp("e", 9)))


class Setting:
    def __init__(self, key: str = "k") -> None:
        self.controller = ControllerStandIn()
        self.confirmed: Latest[Confirmed | None] = Latest(None)
        self.key = Latest(key)
        self.counted: Traffic | None = None

    async def traffic(self) -> Traffic | None:
        return self.counted

    @contextlib.asynccontextmanager
    async def reporting(self) -> AsyncIterator[Reporter]:
        async with served(self.controller.app) as port:
            http = Http(f"http://127.0.0.1:{port}")
            caller = Caller("web", ("v1",))
            reporter = Reporter(
                ControllerClient(http), "the-id", caller, "envoy", self.confirmed, self.key, self.traffic
            )
            task = asyncio.create_task(reporter.run())
            try:
                yield reporter
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait([task])
                await http.close()

    async def reported(self, revision: int) -> None:
        async def newest() -> bool:
            return bool(self.controller.reports) and self.controller.reports[-1][1].plan.revision == revision

        await eventually(newest, what=f"a report of {revision}")


async def test_a_change_is_reported_as_the_proxy_confirmed_it() -> None:
    setting = Setting()
    async with setting.reporting() as reporter:
        rejected = (Rejection("ratings", "no such thing"),)
        setting.confirmed.set(Confirmed(REVISION_3.stamp, rejected))
        await setting.reported(3)
        identity, sent = setting.controller.reports[-1]
        assert identity == "the-id"
        assert (sent.key, sent.service, sent.tags, sent.proxy) == ("k", "web", ("v1",), "envoy")
        assert (sent.plan, sent.registry, sent.rejected) == (
            PlanStamp(3, "h3"),
            RegistryStamp("e", 9),
            rejected,
        )
        setting.confirmed.set(Confirmed(Stamp(PlanStamp(4, "h4"))))
        await setting.reported(4)
        assert reporter.sent == 2


async def test_nothing_is_reported_without_a_key() -> None:
    setting = Setting(key="")
    async with setting.reporting():
        setting.confirmed.set(REVISION_3)
        other = Setting()
        async with other.reporting():
            other.confirmed.set(REVISION_3)
            await other.reported(3)
        assert setting.controller.reports == []
        setting.key.set("later")
        await setting.reported(3)
        assert setting.controller.reports[0][1].key == "later"


async def test_a_controller_that_is_back_is_told_at_once() -> None:
    setting = Setting()
    async with setting.reporting():
        setting.confirmed.set(REVISION_3)
        await setting.reported(3)
        setting.controller.reports.clear()
        setting.key.set("k")  # another hello
        await setting.reported(3)


async def test_it_is_repeated_and_says_so_when_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PERIOD", 0.005)
    setting = Setting()
    async with setting.reporting():

        async def thrice() -> bool:
            return len(setting.controller.reports) >= 3

        await eventually(thrice)
        assert setting.controller.reports[0][1].plan == PlanStamp()


async def test_the_newest_is_tried_again_quietly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report, "RETRIES", (0.001, 0.002))
    caplog.set_level("INFO", "amalgam8")
    setting = Setting()
    setting.controller.refuse = 503
    async with setting.reporting() as reporter:
        setting.confirmed.set(REVISION_3)

        async def tried() -> bool:
            return reporter.failed >= 4

        await eventually(tried)
        setting.confirmed.set(Confirmed(Stamp(PlanStamp(5, "h5"))))
        setting.controller.refuse = 0
        await setting.reported(5)
        assert [sent.plan.revision for _, sent in setting.controller.reports][-1] == 5
    assert len(caplog.records) == 1


async def test_the_last_word_and_none_after_it() -> None:
    setting = Setting()
    async with setting.reporting() as reporter:
        setting.confirmed.set(REVISION_3)
        await setting.reported(3)
        await reporter.leave()
        sent = len(setting.controller.reports)
        assert setting.controller.reports[-1][1].leaving
        setting.confirmed.set(Confirmed(Stamp(PlanStamp(4, "h4"), RegistryStamp("e", 9))))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(setting.controller.reports) == sent


async def test_a_controller_that_is_away_does_not_hold_up_the_end() -> None:
    setting = Setting()
    async with setting.reporting() as reporter:
        setting.controller.refuse = 503
        await reporter.leave()
    assert setting.controller.reports == []


async def test_what_was_counted_goes_with_it_and_as_often_as_the_controller_asks() -> None:
    setting = Setting()
    setting.counted = Traffic("e", (Count("reviews", "v1", Tally(1)),))
    setting.controller.report_in = 0.01  # sooner than SHORTEST, which is the least
    async with setting.reporting() as reporter:
        setting.confirmed.set(REVISION_3)
        await setting.reported(3)
        assert setting.controller.reports[0][1].traffic == setting.counted
        setting.confirmed.set(Confirmed(Stamp(PlanStamp(4, "h4"), RegistryStamp("e", 9))))
        await setting.reported(4)
        assert setting.controller.reports[-1][1].traffic is None  # counted a moment ago
        assert reporter._period == report.SHORTEST
        await reporter.leave()
    assert setting.controller.reports[-1][1].traffic == setting.counted
