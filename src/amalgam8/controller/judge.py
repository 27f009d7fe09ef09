"""Judges a new version by what was counted, against the old one. Pure.

A version is too bad if more of its calls failed than the order allows, and more than the old version's: what
fails for both is not its fault. The same goes for the time within which 99 % of the calls were over. Before
an interval is over it is judged on clear evidence only, since who looks often enough sees every chance.
"""

from math import sqrt
from typing import Literal

import msgspec

from amalgam8.controller.rollout import Order
from amalgam8.model.traffic import Tally

SIGMAS = 2.0
"""Standard deviations above what is allowed that count as clear evidence."""

Verdict = Literal["good", "bad", "unclear"]


class Judgement(msgspec.Struct, frozen=True):
    """``why`` is for people."""

    verdict: Verdict
    why: str


def judge(order: Order, new: Tally, old: Tally, *, over: bool) -> Judgement:
    """What was counted since the step was in force; ``over``: the interval is.

    ``unclear`` is, before it is over, all but what is bad beyond doubt, and after it too few calls.
    """
    if over and new.requests < order.min_requests:
        return Judgement(
            "unclear",
            f"only {new.requests} calls reached {','.join(order.version)}; {order.min_requests} are needed",
        )
    allowed = _errors_allowed(order, new, old)
    doubt = 0.0 if over else SIGMAS * sqrt(allowed)
    if new.errors > allowed + doubt:
        return Judgement(
            "bad",
            f"{_percent(new.error_rate)} of {new.requests} calls failed; {_percent(order.max_errors)} are"
            f" allowed, and {_percent(old.error_rate)} of the old version's failed",
        )
    if not over:
        return Judgement("unclear", "")
    p99 = new.quantile(0.99)
    if order.max_p99 is not None and p99 is not None and p99 > max(order.max_p99, old.quantile(0.99) or 0):
        return Judgement(
            "bad",
            f"99 % of its calls took up to {p99 * 1000:.0f} ms; {order.max_p99 * 1000:.0f} ms are allowed",
        )
    return Judgement("good", told(order, new, old))


def told(order: Order, new: Tally, old: Tally) -> str:
    """Both versions' figures in one line."""
    return f"{','.join(order.version)}: {_figures(new)}; before: {_figures(old)}"


def _errors_allowed(order: Order, new: Tally, old: Tally) -> float:
    """Failed calls that are no reason to go back; where any may fail, a single one never is."""
    share = order.max_errors
    if old.requests >= order.min_requests:
        share = max(share, old.error_rate)
    return max(share * new.requests, 1.0 if share else 0.0)


def _figures(tally: Tally) -> str:
    p99 = tally.quantile(0.99)
    latency = f", p99 {p99 * 1000:.0f} ms" if p99 is not None else ""
    return f"{tally.requests} calls, {_percent(tally.error_rate)} failed{latency}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
