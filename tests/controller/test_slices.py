"""Sharing budgets out: by demand, exactly in the long run, for small budgets too, and for their own callers only."""

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
    return apply(Rulebook(), create(Rulebook(), [Rule(RULE, destination="shop", actions=(Deny(), made))], write()))


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
        dice = random.Random(7)  # noqa: S311 - spreads calls, keeps no secret
        whole = 0
        for step in range(round(seconds * 100)):
            self.now += 0.01
            came = passed = 0
            for number, proxy in enumerate(self.proxies):
                mean = load(number, self.now) / 100
                calls = int(mean) + (dice.random() < mean % 1)
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


LOADS: dict[str, Callable[[int, float], float]] = {
    "all alike": lambda _one, _now: 10.0,
    "one after another": lambda one, now: 200.0 if one == int(now / 5) % 20 else 0.0,
    "few at random": lambda one, now: (
        50.0 if one in random.Random(int(now / 3)).sample(range(20), 4) else 0.0  # noqa: S311
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
