"""Shares out each budget of calls among the sidecars that want some. No I/O; the time is an argument.

The budget is a token bucket, kept here by what the sidecars say has passed. Each gets what it wants as far
as there is enough; what nobody wants is spread, so that it is there when somebody does. What passed beyond
the budget is taken off the shares until it is paid back, and what was left lying is given out. A bucket that
fills up at an idle sidecar is counted too, so that a larger share is no second budget.
"""

from collections.abc import Callable, Mapping
from math import exp2

import msgspec

from amalgam8.controller.book import Rulebook
from amalgam8.model.caller import Caller
from amalgam8.model.rule import RateLimit
from amalgam8.model.slices import SliceReport, Slices, Wanted
from amalgam8.routing.compile import budget, limits_of
from amalgam8.runtime.latest import Latest

MEMBER_FOR = 15.0
"""Seconds after which a sidecar that said nothing has no share any more; it keeps to the last one it had."""

RESERVE = 0.05
"""Part of a budget that is spread evenly, whoever wants it: for calls that begin where none came before."""

REPAY = 2.0
"""Seconds in which what passed beyond the budget is taken off, and what was left is given out."""

HALF_LIFE = 1.0
"""Seconds in which demand that fell is half forgotten: calls come by chance, and shares are not to jump."""

STOPPED = 0.25
"""What is left of a demand when no call at all came."""

NO_DEMAND = 0.001
"""Part of a budget that is as good as nothing."""

REFUSING = 0.8
"""Part of the calls that came; where fewer passed, the others were surely refused."""

GRACE = 6.0
"""Seconds after the start within which the sidecars say which shares they have; nobody gets another."""

SAME = 0.01
"""A share that differs by less, relatively, is the same."""

FIRST_EVERY, EVERY_LIMIT, REPORTS = 0.25, 5.0, 400.0
"""Seconds between reports of one sidecar, from and to, and reports in a second of all together."""


class _Member:
    def __init__(self, now: float) -> None:
        self.at = now
        self.rate = 0.0
        self.peak = 0.0
        self.passed = 0
        self.epoch = ""
        self.share = 0.0
        self.fill = 1.0
        self.served = 0.0

    def wanted(self, now: float) -> float:
        """Calls a second; demand that falls is forgotten by and by."""
        return max(self.rate, self.peak * exp2((self.at - now) / HALF_LIFE))


class Budget:
    """One budget: ``rate`` calls a second, ``depth`` at once."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self.rate = limit.requests / limit.per
        self.depth = float(max(1, int(limit.requests + limit.burst)))
        self.level = self.depth
        self.members: dict[str, _Member] = {}
        self._at = now

    def take(self, identity: str, epoch: str, wanted: Wanted, now: float) -> None:
        """Take what a sidecar says."""
        member = self.members.get(identity)
        if member is None:
            member = self.members[identity] = _Member(now)
            member.share = wanted.share
            passed = 0
        elif member.epoch == epoch and wanted.passed >= member.passed:
            passed = wanted.passed - member.passed
        else:
            passed = wanted.passed
        self.level -= passed
        came = wanted.rate * (now - member.at)
        member.fill = min(1.0, member.fill + self.rate * (now - member.at) / self.depth)
        if passed:
            member.served = now
            member.fill = max(0.0, member.fill - passed / (max(member.share, 1e-9) * self.depth))
        if passed + 1 < came * REFUSING:
            member.fill = 0.0  # calls are refused there, so its bucket is empty
        member.peak = max(wanted.rate, member.wanted(now) * (1 if wanted.rate else STOPPED))
        member.rate = wanted.rate
        member.at, member.epoch, member.passed = now, epoch, wanted.passed

    def settle(self, now: float) -> bool:
        """Share out anew; whether there will be more to do soon, though nobody says anything."""
        self.level = min(self.depth, self.level + self.rate * (now - self._at))
        self._at = now
        for identity, member in list(self.members.items()):
            if now - member.at > MEMBER_FOR:
                del self.members[identity]
        wanted = {one: self._want(member, now) for one, member in self.members.items()}
        if wanted:
            shares = self._held(share_out(self._total(sum(wanted.values())), wanted))
            for identity, share in self._whole(shares, wanted).items():
                self.members[identity].share = share
        return any(want and not self.members[one].rate for one, want in wanted.items()) or self.level < 0

    def _want(self, member: _Member, now: float) -> float:
        """In parts of the budget."""
        wanted = member.wanted(now) / self.rate
        return wanted if wanted >= NO_DEMAND else 0.0

    def _total(self, wanted: float) -> float:
        """What there is to share out, 1: the budget's own rate."""
        if self.level < 0:
            return max(0.0, 1 + self.level / (self.rate * REPAY))
        if wanted < 1:
            return 1.0
        return 1 + min(1.0, self.level / (self.rate * REPAY))

    def _held(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Smaller shares where buckets are full, if together they hold more than the budget does."""
        fills = {identity: self.members[identity].fill for identity in shares}
        potential = sum(share * fills[identity] for identity, share in shares.items()) * self.depth
        allowed = max(self.level, 0.0) + 1
        if potential <= allowed:
            return dict(shares)
        keep = allowed / potential
        return {identity: share * (1 - fills[identity] * (1 - keep)) for identity, share in shares.items()}

    def _whole(self, shares: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
        """Shares by which at least one call can pass, for as many as there are calls; the others get none.

        First those that want calls and were served the longest ago.
        """
        least = 1 / self.depth
        if all(share >= least for share in shares.values()):
            return dict(shares)
        left = sum(shares.values())
        found = dict.fromkeys(shares, 0.0)
        order = sorted(
            shares,
            key=lambda one: (not wanted[one], self.members[one].served, one),
        )
        for identity in order:
            if left < least:
                break
            found[identity] = min(max(shares[identity], least), left)
            left -= found[identity]
        return found


def share_out(total: float, wanted: Mapping[str, float]) -> dict[str, float]:
    """Shares of ``total``: as wanted, the smallest first, as far as it reaches; the rest for all alike."""
    reserve = total * RESERVE / len(wanted)
    left = total * (1 - RESERVE)
    shares = {}
    for done, (identity, want) in enumerate(sorted(wanted.items(), key=lambda item: item[1])):
        shares[identity] = min(max(want - reserve, 0.0), left / (len(wanted) - done))
        left -= shares[identity]
    return {identity: share + reserve + left / len(wanted) for identity, share in shares.items()}


class Told(msgspec.Struct, frozen=True):
    """What a sidecar was told last."""

    slices: dict[str, float] = {}


class FleetLimits:
    """All budgets of one tenant; ``started``: when the controller began; ``begun`` hears of the first one."""

    def __init__(self, started: float, begun: Callable[[], None] = lambda: None) -> None:
        self._started = started
        self._begun = begun
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._told: dict[str, Latest[Told]] = {}
        self._dirty: set[tuple[str, str]] = set()

    @property
    def shared(self) -> bool:
        """Whether there is a budget that somebody shares."""
        return bool(self._budgets)

    def told(self, identity: str) -> Latest[Told]:
        """What sidecar ``identity`` is told; a stream follows it."""
        return self._told.setdefault(identity, Latest(Told()))

    def forget(self, identity: str) -> None:
        """The sidecar has left."""
        self._told.pop(identity, None)
        for key, found in self._budgets.items():
            if found.members.pop(identity, None) is not None:
                self._dirty.add(key)

    def take(self, identity: str, who: Caller, report: SliceReport, book: Rulebook, now: float) -> Slices:
        """Take what a sidecar wants; the answer is what it has. Budgets of no rule are left out.

        ``now`` is steady, in seconds.
        """
        for wanted in report.budgets:
            limit = _limit(book, wanted.budget)
            if limit is None:
                continue
            key = wanted.budget, who.service if limit.key == "caller" else ""
            found = self._budgets.get(key)
            if not self._budgets:
                self._begun()
            if found is None or found.limit != limit:
                found = self._budgets[key] = Budget(limit, now)
            found.take(identity, report.epoch, wanted, now)
            self._dirty.add(key)
        if report.budgets and not self.told(identity).value.slices:
            self.settle(now)
        return Slices(self.told(identity).value.slices, self._every())

    def settle(self, now: float) -> None:
        """Share out what changed, and tell those whose share is another now."""
        if now - self._started <= GRACE:
            return
        moved: set[str] = set()
        unsettled: set[tuple[str, str]] = set()
        for key in self._dirty:
            if (found := self._budgets.get(key)) is None:
                continue
            if found.settle(now):
                unsettled.add(key)
            moved |= found.members.keys()
            if not found.members:
                del self._budgets[key]
        self._dirty = unsettled
        for identity in moved:
            self._tell(identity)

    def _tell(self, identity: str) -> None:
        slices = {
            name: round(found.members[identity].share, 6)
            for (name, _), found in self._budgets.items()
            if identity in found.members
        }
        cell = self.told(identity)
        if not _same(cell.value.slices, slices):
            cell.set(Told(slices))

    def _every(self) -> float:
        members = len({identity for found in self._budgets.values() for identity in found.members})
        return min(max(FIRST_EVERY, members / REPORTS), EVERY_LIMIT)


def _limit(book: Rulebook, name: str) -> RateLimit | None:
    """The limit whose budget has this name."""
    rule = book.rules.get(name.partition("/")[0])
    limits = limits_of(rule) if rule is not None else []
    for place, limit in enumerate(limits):
        if rule is not None and budget(rule, place) == name:
            return limit
    return None


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(
        abs(one[name] - other[name]) <= SAME * max(one[name], other[name]) for name in one
    )
