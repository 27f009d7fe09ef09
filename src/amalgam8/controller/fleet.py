"""The sidecars of one tenant: what each last reported, and whether that is the present state.

A sidecar is *applied* if its proxy confirmed the hash of its present Plan, *rejected* if its proxy refused
a part, *gone* without a report for GONE_AFTER seconds whether or not its stream is open, else *pending*.
After FORGOTTEN_AFTER it is not listed any more. What they said is kept in memory, since they say it again;
who they are is news for the store, so that none is forgotten over a restart. The time (s, any steady
clock) is an argument.
"""

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from amalgam8.controller.plans import Plan
from amalgam8.controller.store import Said, Words
from amalgam8.model.caller import Caller, caller
from amalgam8.model.errors import NotYourSidecar, TooManyWatchers
from amalgam8.model.report import PlanStamp, Rejection, SidecarReport
from amalgam8.model.slices import SliceReport
from amalgam8.runtime.latest import Latest

GONE_AFTER = 30.0
FORGOTTEN_AFTER = 600.0
SIDECARS_LIMIT = 10_000
CONFIRMATIONS_KEPT = 32
REJECTIONS_SHOWN = 20
REJECTIONS_KEPT = 200
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


class Sidecar:
    """What is known of one sidecar; only the Fleet changes it.

    ``heard`` is its last report, or when it first opened its stream; ``confirmations`` are the latest Plans
    that its proxy confirmed and when, oldest first.
    """

    def __init__(self, identity: str, who: Caller, heard: float) -> None:
        self.id = identity
        self.caller = who
        self.first = heard
        self.heard = heard
        self.proxy = ""
        self.confirmed = PlanStamp()
        self.rejected: tuple[Rejection, ...] = ()
        self.confirmations: deque[tuple[float, int]] = deque(maxlen=CONFIRMATIONS_KEPT)
        self.streams = 0

    def take(self, report: SidecarReport, now: float) -> None:
        """Take over what it reported."""
        if (self.confirmed, self.rejected) != (report.plan, report.rejected):
            self.confirmations.append((now, report.plan.revision))
        self.heard = now
        self.proxy = report.proxy
        self.confirmed = report.plan
        self.rejected = report.rejected[:REJECTIONS_KEPT]

    def gone(self, now: float) -> bool:
        return now - self.heard > GONE_AFTER


class Fleet:
    """The sidecars of ``tenant``; ``secret`` is behind their keys; ``dropped`` hears whom it forgets."""

    def __init__(
        self,
        tenant: str,
        secret: bytes,
        dropped: Callable[[str], None] = lambda _identity: None,
        *,
        sharing: bool = False,
    ) -> None:
        """``sharing``: keep what sidecars report for other controllers, until ``take_words``."""
        self._tenant = tenant
        self._dropped = dropped
        self._sharing = sharing
        self._words = Words()
        self._secret = secret
        self._sidecars: dict[str, Sidecar] = {}
        self._news: dict[str, Caller | None] = {}
        self.moved = Latest(0)
        """Wakes whoever waits for sidecars to come or to report."""

    @property
    def streams(self) -> int:
        """Streams that are open now."""
        return sum(sidecar.streams for sidecar in self._sidecars.values())

    def key(self, identity: str) -> str:
        """What a sidecar must show to speak for ``identity``: an HMAC over tenant and id."""
        return hmac.new(self._secret, f"{self._tenant}\0{identity}".encode(), hashlib.sha256).hexdigest()

    def check(self, identity: str, key: str) -> None:
        """Refuse a sidecar that speaks for another; raises NotYourSidecar."""
        if not hmac.compare_digest(key.encode(), self.key(identity).encode()):
            raise NotYourSidecar(f"the key is not that of sidecar {identity}; its stream's hello has it")

    def who(self, identity: str) -> Caller:
        """The caller that a sidecar is; nobody's where it is not known."""
        sidecar = self._sidecars.get(identity)
        return sidecar.caller if sidecar else Caller()

    def opened(self, identity: str, who: Caller, now: float) -> None:
        """A sidecar opened its stream.

        Raises:
            TooManyWatchers: no room for another sidecar.
        """
        sidecar = self._find(identity, who, now)
        if sidecar.confirmed == PlanStamp() and not sidecar.streams:
            sidecar.heard = now
        self._is(sidecar, who)
        sidecar.streams += 1
        self.moved.set(0)

    def remembered(self, known: Mapping[str, Caller], now: float) -> None:
        """Take in sidecars that an earlier process knew: they have yet to be heard of again."""
        for identity, who in known.items():
            self._sidecars.setdefault(identity, Sidecar(identity, who, now))

    def take_news(self) -> dict[str, Caller | None]:
        """Who came, changed or (None) was forgotten since the last time."""
        news, self._news = self._news, {}
        return news

    def put_back(self, news: Mapping[str, Caller | None]) -> None:
        """Undo ``take_news``, where nothing came of it; what happened since counts."""
        self._news = {**news, **self._news}

    def told(self, said: Said, heard: float) -> None:
        """Take in what another controller said of a sidecar that was heard of at ``heard``."""
        known = self._sidecars.get(said.id)
        if said.who is None:
            if known is not None and not known.streams:
                del self._sidecars[said.id]
                self._dropped(said.id)
        else:
            if known is None:
                known = self._sidecars[said.id] = Sidecar(said.id, said.who, heard)
            known.caller = said.who
            if said.report is not None and heard >= known.heard:
                known.take(said.report, heard)
        self.moved.set(0)

    def wants(self, identity: str, report: SliceReport) -> None:
        """Keep for other controllers what a sidecar wants of shared budgets."""
        if self._sharing:
            self._words.wants[identity] = self.who(identity), report

    def take_words(self) -> Words:
        """What sidecars said here since the last time, the latest of each."""
        words, self._words = self._words, Words()
        return words

    def put_words_back(self, words: Words) -> None:
        """Undo ``take_words``, where nobody could be told; what was said since counts."""
        now = self._words
        self._words = Words({**words.reports, **now.reports}, {**words.wants, **now.wants})

    def present(self, now: float) -> Iterable[Sidecar]:
        """All sidecars that are not forgotten."""
        self.forget(now)
        return [one for one in self._sidecars.values() if now - one.heard <= FORGOTTEN_AFTER]

    def closed(self, identity: str) -> None:
        """A stream that was opened has ended."""
        if (sidecar := self._sidecars.get(identity)) is not None and sidecar.streams:
            sidecar.streams -= 1

    def report(self, identity: str, report: SidecarReport, now: float) -> None:
        """Take a sidecar's report.

        Raises:
            NotYourSidecar: the key is not that of ``identity``.
            TooManyWatchers: no room for another sidecar.
        """
        self.check(identity, report.key)
        if report.leaving:
            if identity in self._sidecars:
                self._drop(identity)
                self.moved.set(0)
            return
        who = caller(report.service, report.tags)
        sidecar = self._find(identity, who, now)
        self._is(sidecar, who)
        sidecar.take(report, now)
        if self._sharing:
            self._words.reports[identity] = report
        self.moved.set(0)

    def rows(self, now: float, plan_of: Callable[[Caller], Plan]) -> list[Row]:
        """All sidecars that are not forgotten, by service, tags and id."""
        rows = [self._row(sidecar, now, plan_of) for sidecar in self.present(now)]
        return sorted(rows, key=lambda row: (row.service, row.tags, row.id))

    def forget(self, now: float) -> None:
        """Let go of sidecars that were not heard of for FORGOTTEN_AFTER and have no stream."""
        for identity, sidecar in list(self._sidecars.items()):
            if now - sidecar.heard > FORGOTTEN_AFTER and not sidecar.streams:
                self._drop(identity)

    def _row(self, sidecar: Sidecar, now: float, plan_of: Callable[[Caller], Plan]) -> Row:
        who, age = sidecar.caller, max(now - sidecar.heard, 0.0)
        plan = plan_of(who)
        revision = sidecar.confirmed.revision
        state: State = "pending"
        if sidecar.gone(now):
            state = "gone"
        elif sidecar.rejected:
            state = "rejected"
        elif sidecar.confirmed.hash == plan.hash:
            state, revision = "applied", plan.revision
        reason = reason_of(sidecar.rejected) if state == "rejected" else ""
        return Row(sidecar.id, who.service, who.tags, sidecar.proxy, revision, state, reason, round(age, 3))

    def _find(self, identity: str, who: Caller, now: float) -> Sidecar:
        sidecar = self._sidecars.get(identity)
        if sidecar is None:
            if len(self._sidecars) >= SIDECARS_LIMIT:
                self._make_room(now)
            sidecar = self._sidecars[identity] = Sidecar(identity, who, now)
            self._news[identity] = who
        return sidecar

    def _is(self, sidecar: Sidecar, who: Caller) -> None:
        if sidecar.caller != who:
            sidecar.caller = who
            self._news[sidecar.id] = who

    def _drop(self, identity: str) -> None:
        del self._sidecars[identity]
        self._news[identity] = None
        self._dropped(identity)

    def _make_room(self, now: float) -> None:
        """Forget those that are gone, before their time."""
        for identity, sidecar in list(self._sidecars.items()):
            if now - sidecar.heard > GONE_AFTER and not sidecar.streams:
                self._drop(identity)
        if len(self._sidecars) >= SIDECARS_LIMIT:
            raise TooManyWatchers(f"{SIDECARS_LIMIT} sidecars are known already, which is the limit")


def reason_of(rejected: Iterable[Rejection]) -> str:
    """The proxy's words on the first of the destinations that it refused."""
    rejected = tuple(rejected)
    text = "; ".join(f"{item.destination}: {item.reason}" for item in rejected[:REJECTIONS_SHOWN])
    return text if len(text) <= REASON_LIMIT else text[:REASON_LIMIT] + "…"
