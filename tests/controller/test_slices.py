"""Sharing budgets out: by demand, exactly enough, for small budgets too, and for each caller apart."""

import random
from collections.abc import Callable

import msgspec
import pytest

from amalgam8.controller.book import Rulebook, apply
from amalgam8.controller.rulebook import create
from amalgam8.controller.slices import GRACE, MEMBER_FOR, FleetLimits, share_out
from amalgam8.model.caller import Caller
from amalgam8.model.rule import Deny, RateLimit, Rule
from amalgam8.model.slices import SliceReport, Slices, Wanted
from tests.controller.buckets import BUDGET, RULE, BucketProxy, Windows
from tests.controller.rules import write

WEB = Caller("web")


def book(**limit: object) -> Rulebook:
    action = msgspec.convert({"requests": 100.0, "scope": "fleet", **limit}, _Limit)
    made = RateLimit(**msgspec.structs.asdict(action))
    return apply(
        Rulebook(), create(Rulebook(), [Rule(RULE, destination="shop", actions=(Deny(), made))], write())
    )


class _Limit(msgspec.Struct):
    requests: float
    per: float = 1
    burst: float = 0
    key: str = "all"
    scope: str = "sidecar"


class Fleet:
    """Sidecars in virtual time; each reports every quarter of a second, and takes its shares at once."""

    def __init__(self, count: int, **limit: object) -> None:
        self.book = book(**limit)
        action = self.book.rules[RULE].actions[1]
        assert isinstance(action, RateLimit)
        self.rate = action.requests / action.per
        depth = max(1, int(action.requests + action.burst))
        self.proxies = [BucketProxy(self.rate, depth) for _ in range(count)]
        self.limits = FleetLimits(started=0.0)
        self.now = GRACE + 1.0
        self._seen = [0] * count
        self._cut_off: set[int] = set()

    def cut_off(self, number: int) -> None:
        self._cut_off.add(number)

    def run(self, seconds: float, load: Callable[[int, float], float], windows: Windows | None = None) -> int:
        """Calls come by ``load`` (a second, at a sidecar, at a time); how many pass."""
        dice = random.Random(7)
        whole = 0
        for step in range(round(seconds * 100)):
            self.now += 0.01
            came = passed = 0
            for number, proxy in enumerate(self.proxies):
                calls = poisson(dice, load(number, self.now) / 100)
                came += calls
                passed += proxy.call(self.now, calls)
                if step % 25 == number % 25 and number not in self._cut_off:
                    self._report(number)
            if step % 10 == 0:
                self.limits.settle(self.now)
            for number, proxy in enumerate(self.proxies):
                told = self.limits.told(str(number)).value.slices
                if number not in self._cut_off and told and told != proxy.slices.value:
                    proxy.slices.set(told)
            if windows is not None:
                windows.add(self.now, came, passed)
            whole += passed
        return whole

    def _report(self, number: int) -> None:
        proxy = self.proxies[number]
        rate = (proxy.calls - self._seen[number]) * 4.0
        self._seen[number] = proxy.calls
        wanted = Wanted(BUDGET, rate, proxy.passed, proxy.share)
        self.limits.take(str(number), WEB, SliceReport("", "e", (wanted,)), self.book, self.now)


def poisson(dice: random.Random, mean: float) -> int:
    """Calls in a moment in which ``mean`` come on average."""
    count, left = 0, dice.expovariate(1.0)
    while left < mean:
        count += 1
        left += dice.expovariate(1.0)
    return count


LOADS: dict[str, Callable[[int, float], float]] = {
    "all alike": lambda _one, _now: 10.0,
    "one after another": lambda one, now: 200.0 if one == int(now / 5) % 20 else 0.0,
    "few at random": lambda one, now: (
        50.0 if one in random.Random(int(now / 3)).sample(range(20), 4) else 0.0
    ),
    "below the budget": lambda one, now: 25.0 if one in (int(now / 4) % 20, int(now / 7) % 20) else 0.0,
}


@pytest.mark.parametrize("load", LOADS)
def test_within_a_tenth_of_the_budget_in_every_ten_seconds(load: str) -> None:
    fleet = Fleet(20)
    fleet.run(5, LOADS[load])
    windows = Windows(fleet.rate)
    fleet.run(60, LOADS[load], windows)
    assert windows.over <= 0.10, windows.over
    assert windows.under <= 0.10, windows.under


def test_a_sidecar_that_is_cut_off_keeps_its_share_and_the_others_get_theirs() -> None:
    fleet = Fleet(4)
    busy: Callable[[int, float], float] = lambda _one, _now: 100.0  # noqa: E731
    fleet.run(5, busy)
    before = fleet.proxies[0].share
    fleet.cut_off(0)
    fleet.run(MEMBER_FOR + 5, busy)
    assert fleet.proxies[0].share == before
    assert sum(proxy.share for proxy in fleet.proxies[1:]) == pytest.approx(1.0, abs=0.1)


def test_who_leaves_gives_its_share_back() -> None:
    fleet = Fleet(4)
    busy: Callable[[int, float], float] = lambda _one, _now: 100.0  # noqa: E731
    fleet.run(5, busy)
    fleet.cut_off(0)
    fleet.limits.forget("0")
    fleet.run(3, busy)
    assert sum(proxy.share for proxy in fleet.proxies[1:]) == pytest.approx(1.0, abs=0.1)


def test_a_budget_smaller_than_the_fleet() -> None:
    fleet = Fleet(20, requests=6.0, per=6)  # one call a second, and six at once
    fleet.run(20, lambda _one, _now: 1.0)
    passed = fleet.run(60, lambda _one, _now: 1.0)
    assert 54 <= passed <= 66
    shares = [proxy.share for proxy in fleet.proxies if proxy.share]
    assert all(share * 6 >= 1 - 1e-6 for share in shares)  # none that no call could ever use
    assert len([proxy for proxy in fleet.proxies if proxy.passed]) == 20  # everybody gets a turn


def test_shares_are_as_wanted_as_far_as_it_reaches() -> None:
    assert share_out(1.0, {"a": 0.0, "b": 0.0}) == {"a": 0.5, "b": 0.5}
    few = share_out(1.0, {"a": 0.2, "b": 3.0, "c": 3.0})
    assert few["a"] == pytest.approx(0.2)
    assert few["b"] == few["c"] == pytest.approx(0.4)
    some = share_out(1.0, {"a": 0.2, "b": 0.5})
    assert sum(some.values()) == pytest.approx(1.0)
    assert some["b"] - some["a"] == pytest.approx(0.3)


def report(
    limits: FleetLimits, who: str, name: str = BUDGET, share: float = 0.1, now: float = 100.0
) -> Slices:
    wanted = Wanted(name, 0.0, 0, share)
    caller = Caller(who.partition("-")[0])
    return limits.take(who, caller, SliceReport("", "e", (wanted,)), book(key="caller"), now)


def test_each_caller_has_a_budget_of_its_own_where_the_limit_says_so() -> None:
    limits = FleetLimits(0.0)
    assert report(limits, "web-1").slices == {BUDGET: 1.0}
    report(limits, "web-2")
    report(limits, "api-1")
    limits.settle(100.1)
    shares = {who: limits.told(who).value.slices[BUDGET] for who in ("web-1", "web-2", "api-1")}
    assert shares == {"web-1": 0.5, "web-2": 0.5, "api-1": 1.0}


@pytest.mark.parametrize("name", ["limit/1", "limit", "other/0", "limit/0/x", "", "limit/٠"])
def test_budgets_that_are_none(name: str) -> None:
    limits = FleetLimits(0.0)
    assert report(limits, "web", name).slices == {}
    assert not limits.shared


def test_after_a_start_nobody_gets_another_share_before_all_have_said_theirs() -> None:
    limits = FleetLimits(started=100.0)
    for number in range(3):
        assert report(limits, f"web-{number}", share=0.3, now=100.5).slices == {}
    limits.settle(100.6)
    assert limits.told("web-0").value.slices == {}
    report(limits, "web-0", now=101.0 + GRACE)
    limits.settle(101.0 + GRACE)
    assert limits.told("web-1").value.slices[BUDGET] == pytest.approx(1 / 3, abs=0.001)


def test_reports_are_asked_for_less_often_the_more_there_are() -> None:
    limits = FleetLimits(0.0)
    assert report(limits, "web-0").every == 0.25
    for number in range(400):
        answer = report(limits, f"web-{number}")
    assert answer.every == 1.0


def test_a_limit_that_changed_begins_anew() -> None:
    limits = FleetLimits(0.0)
    report(limits, "web-0")
    before = dict(limits._budgets)
    wanted = Wanted(BUDGET, 0.0, 0, 0.1)
    other = book(key="caller", requests=7.0)
    limits.take("web-0", WEB, SliceReport("", "e", (wanted,)), other, 101.0)
    assert limits._budgets.keys() == before.keys()
    assert limits._budgets[BUDGET, "web"].rate == 7
