"""Judging: limits, the old version beside the new one, clear evidence, too little of it."""

import pytest

from amalgam8.controller.judge import judge
from amalgam8.controller.rollout import Order
from amalgam8.model.traffic import Tally

ORDER = Order("reviews", ("v2",), max_errors=0.01, max_p99=0.5, min_requests=50)
FAST, SLOW = (0,) * 4 + (1,), (0,) * 9 + (1,)
"""One call of 10 to 25 ms, and one of 0.5 to 1 s."""


def calls(requests: int, errors: int = 0, times: tuple[int, ...] = FAST) -> Tally:
    return Tally(requests, errors, 0, tuple(count * requests for count in times))


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        (calls(49), calls(1000), "unclear"),
        (calls(50), calls(1000), "good"),
        (calls(50, 1), calls(1000), "good"),  # a single failure is no reason
        (calls(50, 2), calls(1000), "bad"),
        (calls(1000, 10), calls(1000), "good"),
        (calls(1000, 11), calls(1000), "bad"),
        (calls(1000, 40), calls(1000, 50), "good"),  # the old one fails more often
        (calls(1000, 60), calls(1000, 50), "bad"),
        (calls(1000, 40), calls(49, 49), "bad"),  # too few calls to say so
        (calls(1000, times=SLOW), calls(1000), "bad"),
        (calls(1000, times=SLOW), calls(1000, times=SLOW), "good"),
    ],
)
def test_at_the_end_of_an_interval(new: Tally, old: Tally, verdict: str) -> None:
    assert judge(ORDER, new, old, over=True).verdict == verdict


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (calls(1000), "unclear"),
        (calls(1000, 12), "unclear"),  # may be chance
        (calls(1000, 20), "bad"),
        (calls(4, 4), "bad"),
        (calls(3, 3), "unclear"),
        (calls(1000, times=SLOW), "unclear"),
    ],
)
def test_before_it_is_over_only_clear_evidence_counts(new: Tally, verdict: str) -> None:
    assert judge(ORDER, new, calls(1000), over=False).verdict == verdict


def test_no_failure_may_mean_none() -> None:
    strict = Order("reviews", ("v2",), max_errors=0)
    assert judge(strict, calls(5, 1), calls(100), over=False).verdict == "bad"
    assert judge(strict, calls(100), calls(100), over=True).verdict == "good"


def test_the_words() -> None:
    assert judge(ORDER, calls(1000, 50), calls(900, 9), over=True).why == (
        "5 % of 1000 calls failed; 1 % are allowed, and 1 % of the old version's failed"
    )
    assert judge(ORDER, calls(100), calls(900, 9), over=True).why == (
        "v2: 100 calls, 0 % failed, p99 25 ms; before: 900 calls, 1 % failed, p99 25 ms"
    )
