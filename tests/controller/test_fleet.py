"""The sidecars of a tenant, in virtual time."""

import pytest

from amalgam8.controller import fleet as fleet_module
from amalgam8.controller.fleet import FORGOTTEN_AFTER, GONE_AFTER, REASON_LIMIT, Fleet, Row
from amalgam8.controller.plans import Plan
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import NotYourSidecar, TooManyWatchers
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport

WEB = caller("web", ["v1"])
SECRET = b"s" * 32
NOTHING = PlanStamp()


class Bench:
    """A fleet whose callers' present Plan is at ``revision`` with ``hash``."""

    def __init__(self) -> None:
        self.fleet = Fleet("default", SECRET)
        self.hash = "h1"
        self.revision = 5

    def plan(self, _who: Caller) -> Plan:
        return Plan(self.revision, self.hash, {})

    def report(
        self,
        identity: str,
        now: float,
        plan: PlanStamp = NOTHING,
        *rejected: Rejection,
        who: Caller = WEB,
    ) -> None:
        self.fleet.report(
            identity,
            SidecarReport(self.fleet.key(identity), who.service, who.tags, "envoy", plan, rejected=rejected),
            now,
        )

    def rows(self, now: float) -> list[Row]:
        return self.fleet.rows(now, self.plan)

    def row(self, now: float) -> Row:
        (found,) = self.rows(now)
        return found


def test_a_watching_sidecar_that_has_not_reported_is_pending_then_gone_then_forgotten() -> None:
    bench = Bench()
    bench.fleet.opened("a", WEB, 100.0)
    assert bench.row(110.0) == Row("a", "web", ("v1",), "", 0, "pending", "", 10.0)
    assert bench.row(100.0 + GONE_AFTER).state == "pending"
    assert bench.row(100.1 + GONE_AFTER).state == "gone"
    assert bench.rows(100.1 + FORGOTTEN_AFTER) == []


def test_applied_is_the_hash_of_the_present_plan_whatever_the_revision() -> None:
    bench = Bench()
    bench.report("a", 0.0, PlanStamp(2, "h1"))
    assert bench.row(1.0) == Row("a", "web", ("v1",), "envoy", 5, "applied", "", 1.0)
    bench.revision, bench.hash = 6, "h2"
    assert (bench.row(1.0).state, bench.row(1.0).revision) == ("pending", 2)
    bench.report("a", 2.0, PlanStamp(6, "h2"))
    assert bench.row(2.0).state == "applied"


def test_rejected_in_the_words_of_the_proxy() -> None:
    bench = Bench()
    bench.report("a", 0.0, PlanStamp(5, "h1"), Rejection("reviews", "no such cluster"), Rejection("b", "x"))
    assert (bench.row(0.0).state, bench.row(0.0).reason) == ("rejected", "reviews: no such cluster; b: x")
    bench.report("a", 1.0, PlanStamp(5, "h1"))
    assert (bench.row(1.0).state, bench.row(1.0).reason) == ("applied", "")


def test_a_reason_is_cut() -> None:
    bench = Bench()
    bench.report("a", 0.0, PlanStamp(), *[Rejection("d", "x" * 1000)] * 100)
    assert len(bench.row(0.0).reason) == REASON_LIMIT + 1


def test_gone_without_a_report_though_the_stream_is_open() -> None:
    bench = Bench()
    bench.fleet.opened("a", WEB, 0.0)
    bench.report("a", 1.0, PlanStamp(5, "h1"))
    assert bench.row(31.0).state == "applied"
    assert bench.row(31.1).state == "gone"
    bench.fleet.opened("a", WEB, 32.0)  # opening a stream is no report
    assert bench.row(33.0).state == "gone"
    bench.report("a", 34.0, PlanStamp(5, "h1"))
    assert bench.row(34.0).state == "applied"


def test_forgotten_also_while_its_stream_is_open_and_back_with_a_report() -> None:
    bench = Bench()
    bench.fleet.opened("a", WEB, 0.0)
    assert bench.rows(FORGOTTEN_AFTER + 1) == []
    assert bench.fleet.streams == 1
    bench.report("a", FORGOTTEN_AFTER + 2, PlanStamp(5, "h1"))
    assert bench.row(FORGOTTEN_AFTER + 2).state == "applied"
    bench.fleet.closed("a")
    assert bench.fleet.streams == 0
    assert bench.rows(3 * FORGOTTEN_AFTER) == []
    assert bench.fleet._sidecars == {}


def test_keys_are_of_tenant_id_and_secret() -> None:
    keys = {
        Fleet(tenant, secret).key(identity)
        for tenant, secret, identity in [
            ("default", SECRET, "a"),
            ("default", SECRET, "b"),
            ("other", SECRET, "a"),
            ("default", b"t" * 32, "a"),
        ]
    }
    assert len(keys) == 4
    assert Fleet("default", SECRET).key("a") == Fleet("default", SECRET).key("a")


@pytest.mark.parametrize("key", ["", "x", "é", Fleet("default", SECRET).key("b")])
def test_nobody_speaks_for_another(key: str) -> None:
    bench = Bench()
    with pytest.raises(NotYourSidecar):
        bench.fleet.report("a", SidecarReport(key, "web"), 0.0)
    assert bench.rows(0.0) == []


def test_a_sidecar_may_become_another_service() -> None:
    bench = Bench()
    bench.report("a", 0.0, who=WEB)
    bench.report("a", 1.0, who=caller("api"))
    assert (bench.row(1.0).service, bench.row(1.0).tags) == ("api", ())


def test_the_listing_is_sorted() -> None:
    bench = Bench()
    for identity, who in [
        ("3", WEB),
        ("1", WEB),
        ("2", caller("web")),
        ("0", caller("zoo")),
        ("9", caller("api")),
    ]:
        bench.report(identity, 0.0, who=who)
    assert [row.id for row in bench.rows(0.0)] == ["9", "2", "1", "3", "0"]


def test_the_fleet_is_bounded_and_the_gone_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "SIDECARS_LIMIT", 2)
    bench = Bench()
    bench.report("a", 0.0)
    bench.fleet.opened("b", WEB, 0.0)
    with pytest.raises(TooManyWatchers, match="2 sidecars"):
        bench.fleet.opened("c", WEB, 1.0)
    with pytest.raises(TooManyWatchers):
        bench.report("c", 1.0)
    bench.report("a", 1.0)
    bench.fleet.opened("c", WEB, 40.0)  # a is gone by now; b still has its stream
    assert [row.id for row in bench.rows(40.0)] == ["b", "c"]


def test_one_that_leaves_is_forgotten_at_once() -> None:
    bench = Bench()
    bench.fleet.opened("a", WEB, 0.0)
    bench.report("a", 0.0)
    assert bench.fleet.take_news() == {"a": WEB}
    bench.fleet.report("a", SidecarReport(bench.fleet.key("a"), "web", leaving=True), 1.0)
    assert bench.rows(1.0) == []
    assert bench.fleet.take_news() == {"a": None}
    bench.fleet.closed("a")
    bench.fleet.report("a", SidecarReport(bench.fleet.key("a"), "web", leaving=True), 1.0)
    with pytest.raises(NotYourSidecar):
        bench.fleet.report("a", SidecarReport("wrong", "web", leaving=True), 1.0)
    bench.report("a", 2.0)
    assert bench.row(2.0).state == "pending"


def test_news_that_could_not_be_stored_is_news_still() -> None:
    bench = Bench()
    bench.fleet.opened("a", WEB, 0.0)
    news = bench.fleet.take_news()
    bench.report("a", 1.0, who=caller("api"))
    bench.fleet.put_back({**news, "b": None})
    assert bench.fleet.take_news() == {"a": caller("api"), "b": None}
