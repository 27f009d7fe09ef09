"""Adding up what sidecars counted: differences, restarts of either end, rates, bounds."""

import pytest

from amalgam8.controller.traffic import QUICK, SERIES_KEPT, SILENT_AFTER, WATCHED_FOR, Calls
from amalgam8.model.traffic import Count, Tally, Traffic


def sums(requests: int, errors: int = 0, *, epoch: str = "e", version: str = "v1", **more: int) -> Traffic:
    tally = Tally(requests, errors, more.get("unavailable", 0), (requests,))
    return Traffic(epoch, (Count("reviews", version, tally),))


def test_differences_add_up_over_sidecars() -> None:
    calls = Calls()
    for identity, before, after in (("a", 100, 150), ("b", 7, 8)):
        calls.take(identity, sums(before), 0)
        calls.take(identity, sums(after, 1), 10)
    assert calls.total("reviews", ["v1"]) == Tally(51, 2, 0, (51,))
    assert calls.total("reviews", ["v2"]) == Tally()
    assert calls.counted("a") == 10
    assert calls.counted("c") is None


def test_an_agent_that_began_anew_counted_all_of_it_since() -> None:
    calls = Calls()
    calls.take("a", sums(100), 0)
    calls.take("a", sums(120, epoch="other"), 10)
    assert calls.total("reviews", ["v1"]).requests == 120


def test_a_version_that_was_not_there_before_counts_in_full() -> None:
    calls = Calls()
    calls.take("a", sums(100), 0)
    calls.take("a", Traffic("e", (*sums(100).counts, *sums(9, version="v2,x").counts)), 5)
    assert calls.total("reviews", ["v2"]).requests == 9
    assert calls.total("reviews", [], ["v2"]).requests == 0


def test_calls_that_found_no_instance() -> None:
    calls = Calls()
    calls.take("a", sums(0, version=""), 0)
    calls.take("a", sums(5, 5, version="", unavailable=4), 5)
    assert calls.nowhere("reviews") == 4
    assert calls.total("reviews", []) == Tally()


def test_rates_are_those_of_late() -> None:
    calls = Calls()
    for second in range(0, 62, 2):
        calls.take("a", sums(min(second, 30) * 10), second)
        calls.take("b", sums(second * 20, second), second)
    (rate,) = calls.rates(60)
    assert rate.requests_per_second == pytest.approx(20, rel=0.01)
    assert rate.error_rate == pytest.approx(0.05)
    assert rate.version == ("v1",)
    assert rate.p99 is not None
    assert calls.rates(60 + SILENT_AFTER + 1) == []


def test_reports_in_quick_succession_are_joined() -> None:
    calls = Calls()
    for step in range(10_000):
        calls.take("a", sums(step), step / 1000)
    assert len(calls._sidecars["a"].late) <= 20
    (rate,) = calls.rates(10)
    assert rate.requests_per_second == pytest.approx(1000, rel=0.01)


def test_who_leaves_is_forgotten_and_what_it_counted_stays() -> None:
    calls = Calls()
    calls.take("a", sums(1), 0)
    calls.take("a", sums(11), 1)
    calls.forget("a")
    calls.forget("never there")
    assert calls.rates(2) == []
    assert calls.total("reviews", ["v1"]).requests == 10


def test_the_number_of_series_is_bounded() -> None:
    calls = Calls()
    for part in range(20):
        calls.take("a", Traffic("e"), part * 2)
        many = tuple(Count(f"s{part}-{i}", "v1", Tally(1)) for i in range(500))
        calls.take("a", Traffic("e", many), part * 2 + 1)
    assert len(calls.totals) == SERIES_KEPT


def test_reports_come_quickly_while_somebody_looks() -> None:
    calls = Calls()
    assert calls.pace(0) is None
    calls.want(0)
    assert calls.pace(WATCHED_FOR) == QUICK
    assert calls.pace(WATCHED_FOR + 1) is None
    for number in range(1000):
        calls.take(str(number), Traffic("e"), 0)
    assert calls.pace(1) == 10
