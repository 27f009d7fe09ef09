"""What the proxy counted, whichever proxy it is: read from its figures, and kept across its restarts.

The source is the proxy's own Prometheus text (``Proxy.metrics``): ``a8_proxy_requests_total`` with the labels
``destination``, ``version``, ``status`` and ``reason``, and ``a8_proxy_request_duration_seconds_bucket`` with
``destination``, ``version`` and ``le``, cumulative as is usual. A proxy that began anew counts from zero;
here the sums go on. Refuses more series than SERIES_LIMIT: the busiest stay.
"""

import re
import secrets
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator, Mapping

from amalgam8.model.traffic import (
    BOUNDS,
    NOTHING,
    SERIES_LIMIT,
    TEXT_LIMIT,
    VERSION_LIMIT,
    Count,
    Tally,
    Traffic,
    trimmed,
)

REQUESTS = "a8_proxy_requests_total"
TIMES = "a8_proxy_request_duration_seconds_bucket"

Key = tuple[str, str]
"""Service and version."""

_SAMPLE = re.compile(r"(?P<name>[a-z0-9_]+)\{(?P<labels>.*)\} (?P<value>\S+)")
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_GOOD = ("1xx", "2xx", "3xx", "4xx")


class Counts:
    """Sums since the agent began; ``figures`` asks the proxy."""

    def __init__(self, figures: Callable[[], Awaitable[bytes]]) -> None:
        self._figures = figures
        self._epoch = secrets.token_hex(8)
        self._last: Mapping[Key, Tally] = {}
        self._sums: dict[Key, Tally] = {}

    async def traffic(self) -> Traffic:
        """All calls so far; a proxy that does not answer has counted nothing since."""
        exposition = await self._figures()
        if exposition:
            self._add(read(exposition))
        busiest = sorted(self._sums.items(), key=lambda item: -item[1].requests)[:SERIES_LIMIT]
        return Traffic(self._epoch, tuple(Count(*key, tally) for key, tally in sorted(busiest)))

    def _add(self, found: Mapping[Key, Tally]) -> None:
        for key, tally in found.items():
            more = tally.since(self._last.get(key, NOTHING))
            if more.requests or more.times:
                self._sums[key] = self._sums.get(key, NOTHING).plus(more)
        self._last = found
        if len(self._sums) > 2 * SERIES_LIMIT:
            kept = sorted(self._sums.items(), key=lambda item: -item[1].requests)[:SERIES_LIMIT]
            self._sums = dict(kept)


def read(exposition: bytes) -> dict[Key, Tally]:
    """The sums that a proxy's Prometheus text holds; calls to no known service, and names that no report
    may have, are left out."""
    found: dict[Key, Tally] = {}
    edges: dict[Key, list[tuple[float, int]]] = {}
    for name, labels, value in _samples(exposition):
        key = labels.get("destination", ""), labels.get("version", "")
        if not key[0] or len(key[0]) > TEXT_LIMIT or len(key[1]) > VERSION_LIMIT:
            continue  # one such series would have the whole report refused
        if name == REQUESTS:
            failed = 0 if labels.get("status") in _GOOD else value
            missed = value if labels.get("reason") == "unavailable" else 0
            found[key] = found.get(key, NOTHING).plus(Tally(value, failed, missed))
        else:
            edges.setdefault(key, []).append((float(labels.get("le", "+Inf")), value))
    for key, cumulative in edges.items():
        tally = found.get(key, NOTHING)
        found[key] = Tally(tally.requests, tally.errors, tally.unavailable, _times(cumulative))
    return found


def _samples(exposition: bytes) -> Iterator[tuple[str, dict[str, str], int]]:
    for line in exposition.decode(errors="replace").splitlines():
        if line.startswith((REQUESTS + "{", TIMES + "{")) and (sample := _SAMPLE.fullmatch(line)):
            labels = {name: _ESCAPED.sub(_plain, text) for name, text in _LABEL.findall(sample["labels"])}
            yield sample["name"], labels, int(float(sample["value"]))


def _plain(escape: re.Match[str]) -> str:
    return "\n" if escape[1] == "n" else escape[1]


def _times(cumulative: list[tuple[float, int]]) -> tuple[int, ...]:
    """Counts by BOUNDS, of a histogram with any edges: each goes to the first bound that is not below it."""
    times = [0] * (len(BOUNDS) + 1)
    below = 0
    for edge, count in sorted(cumulative):
        times[bisect_left(BOUNDS, edge)] += max(count - below, 0)
        below = max(below, count)
    return trimmed(times)
