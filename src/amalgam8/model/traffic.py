"""How much was called, and how it went: figures that sidecars send and the controller adds up.

By service and version. Wire format: the member ``traffic`` of ``PUT /v1/sidecars/{id}``
(``docs/reference/controller-api.md``), lists rather than objects, since they are sent again and again.
Times are counts by BOUNDS, so that those of many sidecars add up. Refuses to know clocks, proxies and rules.
"""

from collections.abc import Sequence
from itertools import zip_longest

import msgspec

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds (s) of the counts of ``times``; one more count is for what took longer."""

SERIES_LIMIT = 512
"""Services and versions in one report."""

TEXT_LIMIT = 64
VERSION_LIMIT = 4096
"""Characters."""


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """``errors`` are answers of class 5xx and calls that got none, ``unavailable`` those of them for which
    there was no instance. ``times`` may be shorter than BOUNDS: what is missing is 0."""

    requests: int = 0
    errors: int = 0
    unavailable: int = 0
    times: tuple[int, ...] = ()

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            self.requests + other.requests,
            self.errors + other.errors,
            self.unavailable + other.unavailable,
            tuple(a + b for a, b in zip_longest(self.times, other.times, fillvalue=0)),
        )

    def since(self, before: "Tally") -> "Tally":
        """What came after ``before``; where it has more, the count has begun anew and all of this came."""
        pairs = list(zip_longest(self.times, before.times, fillvalue=0))
        numbers = [
            (self.requests, before.requests),
            (self.errors, before.errors),
            (self.unavailable, before.unavailable),
        ]
        if any(now < then for now, then in (*numbers, *pairs)):
            return self
        requests, errors, unavailable = (now - then for now, then in numbers)
        return Tally(requests, errors, unavailable, trimmed([now - then for now, then in pairs]))

    @property
    def error_rate(self) -> float:
        """From 0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    def quantile(self, share: float) -> float | None:
        """Seconds within which ``share`` of the calls were over, None: there was none.

        Straight between two bounds; never above the last bound.
        """
        total = sum(self.times)
        if not total:
            return None
        wanted, below, low = share * total, 0, 0.0
        for count, high in zip(self.times, BOUNDS, strict=False):
            if below + count >= wanted and count:
                return low + (high - low) * (wanted - below) / count
            below, low = below + count, high
        return BOUNDS[-1]


NOTHING = Tally()


class Count(msgspec.Struct, frozen=True, array_like=True):
    """Calls to instances of ``service`` that carry ``version`` (tags joined by commas; empty: to none)."""

    service: str
    version: str
    tally: Tally


class Traffic(msgspec.Struct, frozen=True, array_like=True):
    """All calls of one sidecar since its agent began, whose start ``epoch`` names."""

    epoch: str = ""
    counts: tuple[Count, ...] = ()


def problem(traffic: Traffic) -> str | None:
    """Why these cannot be figures of a sidecar, or None."""
    if len(traffic.epoch) > TEXT_LIMIT or len(traffic.counts) > SERIES_LIMIT:
        return f"at most {SERIES_LIMIT} series, and an epoch of {TEXT_LIMIT} characters"
    for i, count in enumerate(traffic.counts):
        tally = count.tally
        numbers = (tally.requests, tally.errors, tally.unavailable, *tally.times)
        if len(tally.times) > len(BOUNDS) + 1 or not all(0 <= number < 2**53 for number in numbers):
            return f"[1][{i}]: counts must not be negative, and there are {len(BOUNDS) + 1} times at most"
        if not count.service or len(count.service) > TEXT_LIMIT or len(count.version) > VERSION_LIMIT:
            return f"[1][{i}]: a service has 1 to {TEXT_LIMIT} characters, a version at most {VERSION_LIMIT}"
    return None


def trimmed(times: Sequence[int]) -> tuple[int, ...]:
    """Without the zeros at the end."""
    end = len(times)
    while end and not times[end - 1]:
        end -= 1
    return tuple(times[:end])


def has_tags(version: str, tags: Sequence[str]) -> bool:
    """Whether instances of this version carry all ``tags``."""
    return bool(version) and set(version.split(",")).issuperset(tags)
