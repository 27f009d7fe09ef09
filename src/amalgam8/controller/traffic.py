"""What the sidecars of one tenant counted, added up: rates of late, and sums since this process began.

A sidecar sends sums since its agent began. What came since its report before is the difference; an agent
that began anew has a new epoch, and all of its sums came since. A sidecar that was not known before says
what it had counted already, which is nobody's news. Kept in memory: a controller that starts again counts
from zero. Bounded: SERIES_KEPT services and versions, and of each sidecar what came within WINDOW. No I/O;
the time (s, steady) is an argument.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from amalgam8.model.traffic import NOTHING, Tally, Traffic, has_tags

Key = tuple[str, str]
"""Service and version."""

WINDOW = 10.0
"""Seconds that rates look back on at least, where reports come more often."""

SILENT_AFTER = 30.0
"""Seconds after which a sidecar that did not report counts as one without calls."""

SERIES_KEPT = 4096
QUICK = 2.0
QUICK_REPORTS = 100.0
"""Reports in one second, of all sidecars together, that may be asked for."""

WATCHED_FOR = 30.0
"""Seconds that a look at the figures keeps reports coming quickly."""


class Rate(msgspec.Struct, frozen=True):
    """Calls to one version of late: per second, the share that failed, and seconds."""

    service: str
    version: tuple[str, ...]
    requests_per_second: float
    error_rate: float
    p50: float | None
    p99: float | None


class _Counted:
    """What one sidecar counted of late: when, over how many seconds, and what."""

    def __init__(self, now: float, traffic: Traffic) -> None:
        self.at = now
        self.epoch = traffic.epoch
        self.sums = _sums(traffic)
        self.late: deque[tuple[float, float, dict[Key, Tally]]] = deque()


class Calls:
    """The figures of one tenant."""

    def __init__(self) -> None:
        self.totals: dict[Key, Tally] = {}
        self._sidecars: dict[str, _Counted] = {}
        self._wanted_until = float("-inf")

    def take(self, identity: str, traffic: Traffic, now: float) -> None:
        """Add what sidecar ``identity`` counted since its last report."""
        known = self._sidecars.get(identity)
        if known is None:
            self._sidecars[identity] = _Counted(now, traffic)
            return
        sums = _sums(traffic)
        before = known.sums if traffic.epoch == known.epoch else {}
        came = {key: more for key, tally in sums.items() if (more := _more(tally, before.get(key))).requests}
        for key, tally in came.items():
            if key in self.totals or len(self.totals) < SERIES_KEPT:
                self.totals[key] = self.totals.get(key, NOTHING).plus(tally)
        _remember(known, came, now)
        known.at, known.epoch, known.sums = now, traffic.epoch, sums

    def forget(self, identity: str) -> None:
        """The sidecar has left."""
        self._sidecars.pop(identity, None)

    def counted(self, identity: str) -> float | None:
        """When the sidecar last told what it counted; None: never."""
        known = self._sidecars.get(identity)
        return None if known is None else known.at

    def total(self, service: str, tags: Sequence[str], lacking: Sequence[str] = ()) -> Tally:
        """All calls to instances of ``service`` that carry ``tags`` and, where given, not ``lacking``."""
        found = NOTHING
        for (name, version), tally in self.totals.items():
            if name == service and has_tags(version, tags) and not (lacking and has_tags(version, lacking)):
                found = found.plus(tally)
        return found

    def nowhere(self, service: str) -> int:
        """Calls that found no instance of the version that was chosen for them."""
        return self.totals.get((service, ""), NOTHING).unavailable

    def rates(self, now: float) -> list[Rate]:
        """What is called now, by service and version."""
        found: dict[Key, tuple[float, float, Tally]] = {}
        for counted in self._sidecars.values():
            if now - counted.at > SILENT_AFTER or not counted.late:
                continue
            seconds = sum(span for _, span, _ in counted.late) or 1.0
            for _, _, came in counted.late:
                for key, tally in came.items():
                    rate, failed, whole = found.get(key, (0.0, 0.0, NOTHING))
                    found[key] = (
                        rate + tally.requests / seconds,
                        failed + tally.errors / seconds,
                        whole.plus(tally),
                    )
        return [_rate(key, *sums) for key, sums in sorted(found.items())]

    def want(self, now: float, seconds: float = WATCHED_FOR) -> None:
        """Somebody looks: reports are to come quickly for a while."""
        self._wanted_until = max(self._wanted_until, now + seconds)

    def pace(self, now: float) -> float | None:
        """Seconds until a sidecar is to report again; None: as it likes."""
        if now > self._wanted_until:
            return None
        return max(QUICK, len(self._sidecars) / QUICK_REPORTS)


def _sums(traffic: Traffic) -> dict[Key, Tally]:
    return {(count.service, count.version): count.tally for count in traffic.counts}


def _more(tally: Tally, before: Tally | None) -> Tally:
    return tally.since(before or NOTHING)


def _remember(known: _Counted, came: Mapping[Key, Tally], now: float) -> None:
    """Keep what came, joined with what came a moment before, and drop what is too old to matter."""
    span, whole = now - known.at, dict(came)
    if known.late and known.late[-1][1] < 1.0:
        _, earlier, joined = known.late.pop()
        span += earlier
        for key, tally in joined.items():
            whole[key] = whole.get(key, NOTHING).plus(tally)
    known.late.append((now, span, whole))
    while len(known.late) > 1 and known.late[1][0] <= now - WINDOW:
        known.late.popleft()


def _rate(key: Key, requests: float, errors: float, whole: Tally) -> Rate:
    service, version = key
    return Rate(
        service,
        tuple(version.split(",")) if version else (),
        round(requests, 3),
        round(errors / requests, 6) if requests else 0.0,
        whole.quantile(0.5),
        whole.quantile(0.99),
    )
