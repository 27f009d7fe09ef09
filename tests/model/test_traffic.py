"""Figures: adding, subtracting, restarts, quantiles, and what no sidecar would send."""

import msgspec
import pytest

from amalgam8.model.traffic import BOUNDS, SERIES_LIMIT, Count, Tally, Traffic, has_tags, problem, trimmed


def test_sums_add_up() -> None:
    assert Tally(3, 1, 0, (1, 2)).plus(Tally(4, 0, 0, (0, 1, 3))) == Tally(7, 1, 0, (1, 3, 3))


def test_what_came_since() -> None:
    assert Tally(7, 1, 1, (4, 3)).since(Tally(3, 1, 0, (3,))) == Tally(4, 0, 1, (1, 3))
    assert Tally(7, 1, 0, (4, 3)).since(Tally(7, 1, 0, (4, 3))) == Tally()


@pytest.mark.parametrize("before", [Tally(8), Tally(1, 2), Tally(1, 0, 1), Tally(1, 0, 0, (9,))])
def test_a_count_that_went_back_has_begun_anew(before: Tally) -> None:
    now = Tally(7, 1, 0, (4, 3))
    assert now.since(before) == now


def test_quantiles_lie_between_the_bounds() -> None:
    assert Tally().quantile(0.5) is None
    assert Tally(times=(100,)).quantile(0.5) == pytest.approx(BOUNDS[0] / 2)
    half = Tally(times=(50, 0, 50))
    assert half.quantile(0.5) == pytest.approx(BOUNDS[0])
    assert half.quantile(0.75) == pytest.approx((BOUNDS[1] + BOUNDS[2]) / 2)
    assert half.quantile(1) == pytest.approx(BOUNDS[2])
    assert Tally(times=(*[0] * len(BOUNDS), 1)).quantile(0.99) == BOUNDS[-1]


def test_the_error_rate() -> None:
    assert Tally().error_rate == 0
    assert Tally(200, 3).error_rate == 0.015


def test_versions_by_tags() -> None:
    assert has_tags("v2,version=v2", ["v2"])
    assert has_tags("v2", [])
    assert not has_tags("v21", ["v2"])
    assert not has_tags("", [])


def test_zeros_at_the_end_are_left_out() -> None:
    assert trimmed([0, 1, 0, 0]) == (0, 1)
    assert trimmed([0]) == ()


def test_the_wire() -> None:
    sent = Traffic("e", (Count("reviews", "v1", Tally(3, 1, 0, (2, 1))),))
    assert msgspec.json.encode(sent) == b'["e",[["reviews","v1",[3,1,0,[2,1]]]]]'
    assert problem(sent) is None


@pytest.mark.parametrize(
    "count",
    [
        Count("", "v1", Tally(1)),
        Count("x" * 65, "v1", Tally(1)),
        Count("reviews", "v" * 5000, Tally(1)),
        Count("reviews", "v1", Tally(-1)),
        Count("reviews", "v1", Tally(2**60)),
        Count("reviews", "v1", Tally(1, 0, 0, (1,) * 16)),
    ],
)
def test_what_is_refused(count: Count) -> None:
    fine = Count("reviews", "v1", Tally(1))
    assert "[1][1]" in str(problem(Traffic("e", (fine, count))))


def test_there_is_a_limit() -> None:
    assert problem(Traffic("e", (Count("a", "", Tally()),) * (SERIES_LIMIT + 1)))
    assert problem(Traffic("e" * 65))
