"""The sidecars of one tenant: what each last reported, and whether that is the present state.

A sidecar is *applied* if its proxy confirmed the hash of its present Plan, *rejected* if its proxy refused
a part, *gone* without a report for GONE_AFTER seconds whether or not its stream is open, else *pending*.
After FORGOTTEN_AFTER it is not listed any more. Kept in memory: sidecars report again after a restart.
The time (s, any steady clock) is an argument.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal

import msgspec

from amalgam8.controller.plans import Plan
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import NotYourSidecar, TooManyWatchers
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport

GONE_AFTER = 30.0
FORGOTTEN_AFTER = 600.0
SIDECARS_LIMIT = 10_000
REJECTIONS_SHOWN = 20
REASON_LIMIT = 2000
"""Characters of a sidecar's reason that are kept."""

State = Literal["pending", "applied", "rejected", "gone"]
STATES: tuple[State, ...] = ("pending", "applied", "rejected", "gone")


class Row(msgspec.Struct, frozen=True):
    """One sidecar as it is listed; ``age`` is seconds since it was last heard of."""

    id: str
    service: str
    tags: tuple[str, ...]
    proxy: str
    revision: int
    state: State
    reason: str
    age: float


class _Sidecar:
    """What is known of one sidecar; ``heard`` is its last report, or when it first opened its stream."""

    def __init__(self, who: Caller, heard: float) -> None:
        self.caller = who
        self.heard = heard
        self.proxy = ""
        self.confirmed = PlanStamp()
        self.reason = ""
        self.streams = 0


class Fleet:
    """The sidecars of ``tenant``; ``secret`` is behind their keys."""

    def __init__(self, tenant: str, secret: bytes) -> None:
        self._tenant = tenant
        self._secret = secret
        self._sidecars: dict[str, _Sidecar] = {}

    @property
    def streams(self) -> int:
        """Streams that are open now."""
        return sum(sidecar.streams for sidecar in self._sidecars.values())

    def key(self, identity: str) -> str:
        """What a sidecar must show to speak for ``identity``: an HMAC over tenant and id."""
        return hmac.new(self._secret, f"{self._tenant}\0{identity}".encode(), hashlib.sha256).hexdigest()

    def opened(self, identity: str, who: Caller, now: float) -> None:
        """A sidecar opened its stream.

        Raises:
            TooManyWatchers: no room for another sidecar.
        """
        sidecar = self._find(identity, who, now)
        if sidecar.confirmed == PlanStamp() and not sidecar.streams:
            sidecar.heard = now
        sidecar.caller = who
        sidecar.streams += 1

    def closed(self, identity: str) -> None:
        """A stream that was opened has ended."""
        self._sidecars[identity].streams -= 1

    def report(self, identity: str, report: SidecarReport, now: float) -> None:
        """Take a sidecar's report.

        Raises:
            NotYourSidecar: the key is not that of ``identity``.
            TooManyWatchers: no room for another sidecar.
        """
        if not hmac.compare_digest(report.key.encode(), self.key(identity).encode()):
            raise NotYourSidecar(f"the key is not that of sidecar {identity}; its stream's hello has it")
        sidecar = self._find(identity, caller(report.service, report.tags), now)
        sidecar.caller = caller(report.service, report.tags)
        sidecar.heard = now
        sidecar.proxy = report.proxy
        sidecar.confirmed = report.plan
        sidecar.reason = _reason(report.rejected)

    def rows(self, now: float, plan_of: Callable[[Caller], Plan]) -> list[Row]:
        """All sidecars that are not forgotten, by service, tags and id."""
        self.forget(now)
        rows = [
            self._row(identity, sidecar, now, plan_of)
            for identity, sidecar in self._sidecars.items()
            if now - sidecar.heard <= FORGOTTEN_AFTER
        ]
        return sorted(rows, key=lambda row: (row.service, row.tags, row.id))

    def forget(self, now: float) -> None:
        """Let go of sidecars that were not heard of for FORGOTTEN_AFTER and have no stream."""
        for identity, sidecar in list(self._sidecars.items()):
            if now - sidecar.heard > FORGOTTEN_AFTER and not sidecar.streams:
                del self._sidecars[identity]

    def _row(self, identity: str, sidecar: _Sidecar, now: float, plan_of: Callable[[Caller], Plan]) -> Row:
        who, age = sidecar.caller, max(now - sidecar.heard, 0.0)
        plan = plan_of(who)
        revision = sidecar.confirmed.revision
        state: State = "pending"
        if age > GONE_AFTER:
            state = "gone"
        elif sidecar.reason:
            state = "rejected"
        elif sidecar.confirmed.hash == plan.hash:
            state, revision = "applied", plan.revision
        reason = sidecar.reason if state == "rejected" else ""
        return Row(identity, who.service, who.tags, sidecar.proxy, revision, state, reason, round(age, 3))

    def _find(self, identity: str, who: Caller, now: float) -> _Sidecar:
        sidecar = self._sidecars.get(identity)
        if sidecar is None:
            if len(self._sidecars) >= SIDECARS_LIMIT:
                self._make_room(now)
            sidecar = self._sidecars[identity] = _Sidecar(who, now)
        return sidecar

    def _make_room(self, now: float) -> None:
        """Forget those that are gone, before their time."""
        for identity, sidecar in list(self._sidecars.items()):
            if now - sidecar.heard > GONE_AFTER and not sidecar.streams:
                del self._sidecars[identity]
        if len(self._sidecars) >= SIDECARS_LIMIT:
            raise TooManyWatchers(f"{SIDECARS_LIMIT} sidecars are known already, which is the limit")


def _reason(rejected: tuple[Rejection, ...]) -> str:
    text = "; ".join(f"{item.destination}: {item.reason}" for item in rejected[:REJECTIONS_SHOWN])
    return text if len(text) <= REASON_LIMIT else text[:REASON_LIMIT] + "…"
