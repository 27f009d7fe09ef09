"""Where each rule, and each revision, is applied: judged by what the sidecars' *proxies* confirmed.

No I/O; the times are arguments. Only sidecars count that a rule concerns, which are those whose Plan it can
change. A sidecar has *applied* a rule if the part of its Plan that holds the rule is confirmed, *rejected*
it if its proxy refused that part, is *gone* without a report for GONE_AFTER seconds, else it is *pending*.
A sidecar that is gone may still serve, so it does not count as one that has applied anything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.fleet import GONE_AFTER, Fleet, Sidecar, State, reason_of
from amalgam8.controller.plans import Plans
from amalgam8.controller.store import Mirror
from amalgam8.model.caller import Caller
from amalgam8.model.errors import RuleNotFound
from amalgam8.model.report import Rejection
from amalgam8.model.rule import Rule, in_order, rfc3339, timestamp
from amalgam8.routing.compile import compile, concerns  # noqa: A004 - the field's own word

Concern = Callable[[Caller], frozenset[str]]
"""The destinations that a change of some rules can change for a caller."""


class Moment(msgspec.Struct, frozen=True):
    """Now, on the steady clock and on the wall's; both in seconds."""

    steady: float
    wall: float

    def text(self, steady: float) -> str:
        """A time of the steady clock as RFC 3339."""
        return rfc3339(self.wall - max(self.steady - steady, 0.0))


class Standing(msgspec.Struct, frozen=True):
    """One sidecar and a rule: ``since`` is RFC 3339, ``reason`` says why not where that is known."""

    id: str
    service: str
    tags: tuple[str, ...]
    state: State
    since: str
    reason: str = ""


class Status(msgspec.Struct, frozen=True):
    """A rule's status; ``revision`` is the one in which it was last written."""

    id: str
    revision: int
    applied: bool
    concerned: int
    sidecars: tuple[Standing, ...]
    note: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a revision is applied in all of the ``concerned`` sidecars, and which are missing."""

    applied: bool
    concerned: int
    missing: tuple[Standing, ...]


class Touched(msgspec.Struct, frozen=True):
    """A sidecar whose Plan would change."""

    id: str
    service: str
    tags: tuple[str, ...]
    destinations: tuple[str, ...]


class Ledger:
    """What the sidecars of one tenant have applied."""

    def __init__(self, mirror: Mirror, plans: Plans, fleet: Fleet) -> None:
        self._mirror = mirror
        self._plans = plans
        self._fleet = fleet

    def status(self, identity: str, now: Moment) -> Status:
        """Where the rule is applied.

        Raises:
            RuleNotFound: there is no rule of this id.
        """
        book = self._mirror.book
        rule = book.rules.get(identity)
        if rule is None:
            raise RuleNotFound(f"there is no rule {identity}")
        written = book.written[identity]
        found = self._standings(concern_of([rule]), written.revision, written.at or rule.created, now)
        applied = all(one.state == "applied" for one in found)
        note = "" if found else "this rule concerns no sidecar that is known"
        return Status(identity, written.revision, applied, len(found), found, note)

    def applied(self, change: Change, now: Moment, concern: Concern) -> bool:
        """What ``verdict`` says, but not who is missing: as cheap as it can be for many sidecars."""
        return all(
            reached and not _refused(sidecar, destinations) and not sidecar.gone(now.steady)
            for sidecar, destinations, reached in self._concerned(concern, change.revision, now)
        )

    def verdict(self, change: Change, now: Moment, concern: Concern | None = None) -> Verdict:
        """Whether ``change`` is applied wherever it matters."""
        concern = concern or concern_of([*change.before, *change.after])
        found = self._standings(concern, change.revision, change.at, now)
        missing = tuple(one for one in found if one.state != "applied")
        return Verdict(not missing, len(found), missing)

    def touched(self, then: Rulebook, change: Change, now: Moment) -> tuple[Touched, ...]:
        """The sidecars whose Plan would differ if ``change`` made the rules what they are in ``then``."""
        book = self._mirror.book
        concern = concern_of([*change.before, *change.after])
        differing: dict[Caller, tuple[str, ...]] = {}
        found = []
        for sidecar in self._fleet.present(now.steady):
            who = sidecar.caller
            if who not in differing:
                differing[who] = tuple(
                    name for name in sorted(concern(who)) if _differs(book, then, name, who)
                )
            if differing[who]:
                found.append(Touched(sidecar.id, who.service, who.tags, differing[who]))
        return tuple(sorted(found, key=lambda one: (one.service, one.tags, one.id)))

    def _standings(self, concern: Concern, revision: int, at: str, now: Moment) -> tuple[Standing, ...]:
        found = [
            _standing(sidecar, destinations, reached, revision, at, now)
            for sidecar, destinations, reached in self._concerned(concern, revision, now)
        ]
        return tuple(sorted(found, key=lambda one: (one.service, one.tags, one.id)))

    def _concerned(
        self, concern: Concern, revision: int, now: Moment
    ) -> Iterator[tuple[Sidecar, frozenset[str], bool]]:
        """The sidecars that are concerned, by which destinations, and whether they follow the revision."""
        reached: dict[tuple[Caller, str], bool] = {}
        for sidecar in self._fleet.present(now.steady):
            destinations = concern(sidecar.caller)
            if not destinations:
                continue
            key = (sidecar.caller, sidecar.confirmed.hash)
            if key not in reached:
                standing = self._plans.standing(*key)
                reached[key] = standing.revision >= revision or (
                    standing.behind is not None and not standing.behind & destinations
                )
            yield sidecar, destinations, reached[key]


def concern_of(rules: Iterable[Rule]) -> Concern:
    """Which destinations of ``rules`` concern a caller; worked out once for each."""
    by_destination: dict[str, list[Rule]] = {}
    for rule in rules:
        by_destination.setdefault(rule.destination, []).append(rule)
    known: dict[Caller, frozenset[str]] = {}

    def concern(who: Caller) -> frozenset[str]:
        if who not in known:
            known[who] = _concerned(by_destination, who)
        return known[who]

    return concern


def _concerned(rules: Mapping[str, Sequence[Rule]], who: Caller) -> frozenset[str]:
    return frozenset(name for name, found in rules.items() if any(concerns(rule, who) for rule in found))


def _differs(book: Rulebook, then: Rulebook, destination: str, who: Caller) -> bool:
    before, after = (in_order(one.by_destination.get(destination, ())) for one in (book, then))
    return compile(before, who) != compile(after, who)


def _standing(
    sidecar: Sidecar, destinations: frozenset[str], reached: bool, revision: int, at: str, now: Moment
) -> Standing:
    refused = _refused(sidecar, destinations)
    state: State = "pending"
    reason = ""
    since = max(now.wall - (now.steady - sidecar.first), timestamp(at) if at else 0.0)
    since_text = rfc3339(min(since, now.wall))
    if sidecar.gone(now.steady):
        state, since_text = "gone", now.text(sidecar.heard + GONE_AFTER)
        reason = f"not heard from for {now.steady - sidecar.heard:.0f} s"
    elif reached:
        state = "rejected" if refused else "applied"
        reason = reason_of(refused)
        since_text = now.text(_confirmed_at(sidecar, revision))
    return Standing(sidecar.id, sidecar.caller.service, sidecar.caller.tags, state, since_text, reason)


def _refused(sidecar: Sidecar, destinations: frozenset[str]) -> list[Rejection]:
    return [one for one in sidecar.rejected if one.destination in destinations]


def _confirmed_at(sidecar: Sidecar, revision: int) -> float:
    """When the first Plan that holds ``revision`` was confirmed, as far back as that is known."""
    times = [at for at, reached in sidecar.confirmations if reached >= revision]
    if not times and sidecar.confirmations:
        times = [sidecar.confirmations[-1][0]]
    return times[0] if times else sidecar.heard
