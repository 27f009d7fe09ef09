"""Where rules are applied, in virtual time: only whom they concern, and only what proxies confirmed."""

import pytest

from amalgam8.controller import rulebook
from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.fleet import GONE_AFTER, Fleet
from amalgam8.controller.ledger import Ledger, Moment, Status, concern_of
from amalgam8.controller.plans import Plans
from amalgam8.controller.rulebook import Selection
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import RuleNotFound
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport
from amalgam8.model.rule import Rule, rfc3339
from tests.controller.rules import NOON, route, sourced, write

WEB, API, GATEWAY = caller("web", ["v1"]), caller("api"), caller("gateway")
NAMES = {"w": WEB, "a": API, "g": GATEWAY}


class Bench:
    """A tenant with sidecars w (web), a (api) and g (gateway); the clocks stand at ``seconds`` past noon."""

    def __init__(self) -> None:
        self.mirror = Mirror(Rulebook())
        self.plans = Plans(self.mirror)
        self.fleet = Fleet("default", b"s" * 32)
        self.ledger = Ledger(self.mirror, self.plans, self.fleet)
        self.seconds = 0.0

    @property
    def now(self) -> Moment:
        return Moment(100.0 + self.seconds, NOON + self.seconds)

    def take(self, change: Change) -> Change:
        self.mirror.take(change)
        return change

    def create(self, *rules: Rule) -> Change:
        return self.take(rulebook.create(self.mirror.book, rules, write(NOON + self.seconds)))

    def replace(self, *rules: Rule) -> Change:
        return self.take(rulebook.replace(self.mirror.book, rules, write(NOON + self.seconds)))

    def confirm(self, *names: str, stamp: PlanStamp | None = None, rejected: Rejection | None = None) -> None:
        """The proxies of these sidecars have confirmed their present Plan."""
        for name in names:
            who: Caller = NAMES[name]
            plan = self.plans.plan(who)
            report = SidecarReport(
                self.fleet.key(name),
                who.service,
                who.tags,
                "envoy",
                stamp or PlanStamp(plan.revision, plan.hash),
                rejected=(rejected,) if rejected else (),
            )
            self.fleet.report(name, report, self.now.steady)

    def states(self, rule: str) -> dict[str, str]:
        return {one.id: one.state for one in self.ledger.status(rule, self.now).sidecars}

    def missing(self, change: Change) -> list[str]:
        verdict = self.ledger.verdict(change, self.now)
        assert verdict.applied is not bool(verdict.missing)
        concern = concern_of([*change.before, *change.after])
        assert self.ledger.applied(change, self.now, concern) is verdict.applied
        return [one.id for one in verdict.missing]


async def test_only_whom_it_concerns_and_pending_until_confirmed() -> None:
    bench = Bench()
    bench.confirm("w", "a", "g")
    bench.create(route("all"), sourced("web", "only-web", "ratings"))
    assert bench.states("all") == {"w": "pending", "a": "pending", "g": "pending"}
    assert bench.states("only-web") == {"w": "pending"}
    bench.seconds = 1
    bench.confirm("w", "g")
    assert bench.states("all") == {"w": "applied", "a": "pending", "g": "applied"}
    assert bench.states("only-web") == {"w": "applied"}


async def test_a_status_in_full() -> None:
    bench = Bench()
    bench.confirm("g")
    bench.seconds = 1
    bench.create(sourced("gateway", "r"))
    bench.seconds = 3
    found = bench.ledger.status("r", bench.now)
    assert (found.id, found.revision, found.applied, found.concerned, found.note) == ("r", 1, False, 1, "")
    (one,) = found.sidecars
    assert (one.service, one.tags, one.reason) == ("gateway", (), "")
    assert one.since == rfc3339(NOON + 1)  # when it was written
    bench.confirm("g")
    bench.seconds = 60
    bench.confirm("g")  # saying the same again is no news
    bench.create(route("later", "details"))
    bench.confirm("g")
    (one,) = bench.ledger.status("r", bench.now).sidecars
    assert (one.state, one.since) == ("applied", rfc3339(NOON + 3))


async def test_a_rule_that_concerns_nobody_says_so() -> None:
    bench = Bench()
    bench.confirm("w")
    bench.create(sourced("nobody", "r"))
    found = bench.ledger.status("r", bench.now)
    assert found == Status("r", 1, True, 0, (), "this rule concerns no sidecar that is known")
    with pytest.raises(RuleNotFound):
        bench.ledger.status("unknown", bench.now)


async def test_a_change_elsewhere_does_not_make_a_rule_pending_again() -> None:
    bench = Bench()
    bench.create(route("a"))
    bench.confirm("w")
    bench.create(route("b", "details"))
    assert bench.states("a") == {"w": "applied"}
    assert bench.states("b") == {"w": "pending"}
    bench.create(route("c", version="v2"))  # the same destination: the part of a is another one
    assert bench.states("c") == {"w": "pending"}


async def test_a_later_change_of_the_same_part_leaves_the_earlier_one_applied() -> None:
    bench = Bench()
    first = bench.create(route("a"))
    bench.confirm("w")
    second = bench.replace(route("a", version="v2"))
    assert bench.missing(first) == []
    assert bench.missing(second) == ["w"]


async def test_a_change_that_alters_no_plan_is_applied_at_once() -> None:
    bench = Bench()
    bench.create(route("a"))
    bench.confirm("w")
    assert bench.missing(bench.replace(route("a", description="words"))) == []
    assert bench.states("a") == {"w": "applied"}


async def test_a_deletion_concerns_those_who_had_the_rule() -> None:
    bench = Bench()
    bench.create(sourced("web", "r"))
    bench.confirm("w", "a")
    change = bench.take(rulebook.remove(bench.mirror.book, Selection(ids=("r",)), write()))
    assert bench.missing(change) == ["w"]
    bench.confirm("w")
    assert bench.missing(change) == []
    assert bench.ledger.verdict(change, bench.now).concerned == 1


async def test_rejected_only_where_the_refused_part_holds_the_rule() -> None:
    bench = Bench()
    bench.create(route("a"), route("b", "ratings"))
    bench.confirm("w", rejected=Rejection("ratings", "no such cluster"))
    assert (bench.states("a"), bench.states("b")) == ({"w": "applied"}, {"w": "rejected"})
    (one,) = bench.ledger.status("b", bench.now).sidecars
    assert one.reason == "ratings: no such cluster"
    change = bench.replace(route("b", "ratings", "v2"))  # perhaps this one is better
    assert bench.states("b") == {"w": "pending"}
    assert bench.missing(change) == ["w"]


async def test_stopped_is_pending_then_gone_and_never_applied() -> None:
    bench = Bench()
    bench.confirm("w")
    change = bench.create(route("a"))
    bench.seconds = GONE_AFTER
    assert bench.states("a") == {"w": "pending"}
    bench.seconds = GONE_AFTER + 5
    (one,) = bench.ledger.status("a", bench.now).sidecars
    assert (one.state, one.since, one.reason) == (
        "gone",
        rfc3339(NOON + GONE_AFTER),
        "not heard from for 35 s",
    )
    assert bench.missing(change) == ["w"]
    bench.confirm("w")
    assert bench.missing(change) == []


async def test_what_an_earlier_process_gave_counts_by_its_hash() -> None:
    """After a restart the revisions of a report say nothing, and its hash says all."""
    bench = Bench()
    bench.create(route("a"))
    bench.fleet.remembered({"w": WEB}, 100.0)
    assert bench.states("a") == {"w": "pending"}
    bench.confirm("w", stamp=PlanStamp(9999, "of-another-life"))
    assert bench.states("a") == {"w": "pending"}
    bench.confirm("w", stamp=PlanStamp(1, bench.plans.plan(WEB).hash))
    assert bench.states("a") == {"w": "applied"}


async def test_whom_a_change_would_touch() -> None:
    bench = Bench()
    bench.create(route("a"), sourced("web", "w-only", "ratings"))
    bench.confirm("w", "a", "g")
    book = bench.mirror.book

    def touched(change: Change) -> list[tuple[str, tuple[str, ...]]]:
        return [
            (one.id, one.destinations) for one in bench.ledger.touched(apply(book, change), change, bench.now)
        ]

    assert touched(rulebook.replace(book, [route("a", description="words")], write())) == []
    assert touched(rulebook.remove(book, Selection(ids=("w-only",)), write())) == [("w", ("ratings",))]
    assert touched(rulebook.remove(book, Selection(), write())) == [
        ("a", ("reviews",)),
        ("g", ("reviews",)),
        ("w", ("ratings", "reviews")),
    ]
