"""The nouns of the rules' history: one Change, and the Rulebook that changes add up to.

Pure. ``apply`` makes the next Rulebook of a Change. A Change holds whole rules before and after, so that
it can be shown, and taken back, by itself. What may be written stands in ``rulebook``, ``undo`` and
``declare``.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from amalgam8.model.rule import Rule, in_order, timestamp

Kind = Literal["route", "action"]
Cause = Literal[
    "create",
    "replace",
    "remove",
    "replace-for-destination",
    "lapse",
    "apply",
    "rollback",
    "confirm",
    "revert",
    "rollout",
]


class Change(msgspec.Struct, frozen=True):
    """One revision: rules that were (``before``) and rules that are (``after``) in their place.

    A rule in ``after`` only is new, one in ``before`` only is gone. ``at`` is RFC 3339; so is
    ``confirm_by``, when the change is undone unless it is confirmed. ``about`` names the revisions that
    were confirmed, undone, or rolled back to.
    """

    revision: int
    at: str
    cause: Cause
    before: tuple[Rule, ...] = ()
    after: tuple[Rule, ...] = ()
    request_id: str = ""
    author: str = ""
    comment: str = ""
    confirm_by: str = ""
    about: tuple[int, ...] = ()

    @property
    def destinations(self) -> frozenset[str]:
        """Every destination that may mean something else from this revision on."""
        return frozenset(rule.destination for rules in (self.before, self.after) for rule in rules)

    @property
    def ids(self) -> frozenset[str]:
        """The rules that it touches."""
        return frozenset(rule.id for rules in (self.before, self.after) for rule in rules)


class Written(msgspec.Struct, frozen=True):
    """When a rule was last written; revision 0 and no time where that was before the kept history."""

    revision: int = 0
    at: str = ""


class Unconfirmed(msgspec.Struct, frozen=True):
    """A change that is undone at ``by`` unless it is confirmed, as far as nobody touched its rules since.

    ``before`` are rules to put back, ``after`` the ids of rules that it put.
    """

    revision: int
    by: str
    before: tuple[Rule, ...] = ()
    after: tuple[str, ...] = ()

    def without(self, ids: frozenset[str]) -> "Unconfirmed":
        """What is left to undo once somebody touched ``ids``."""
        return msgspec.structs.replace(
            self,
            before=tuple(rule for rule in self.before if rule.id not in ids),
            after=tuple(identity for identity in self.after if identity not in ids),
        )


class Rulebook(msgspec.Struct, frozen=True):
    """All rules, by id and by destination (there in the order in which they are tried).

    ``newest`` is the latest ``created`` ever given, in microseconds since the epoch; ``expiring`` has the
    time (s) of each rule that lapses; ``written`` says of each rule when it was last written.
    """

    revision: int = 0
    newest: int = 0
    rules: Mapping[str, Rule] = {}
    by_destination: Mapping[str, tuple[Rule, ...]] = {}
    expiring: Mapping[str, float] = {}
    written: Mapping[str, Written] = {}
    unconfirmed: tuple[Unconfirmed, ...] = ()

    @property
    def next_due(self) -> float | None:
        """When the next rule lapses or change is undone, in seconds since the epoch."""
        ends = [*self.expiring.values(), *(timestamp(waiting.by) for waiting in self.unconfirmed)]
        return min(ends, default=None)


def book_of(
    rules: Iterable[Rule],
    revision: int,
    newest: int,
    written: Mapping[str, Written] | None = None,
    unconfirmed: Iterable[Unconfirmed] = (),
) -> Rulebook:
    """A Rulebook of stored rules."""
    listed = in_order(rules)
    by_destination: dict[str, list[Rule]] = {}
    for rule in listed:
        by_destination.setdefault(rule.destination, []).append(rule)
    return Rulebook(
        revision,
        newest,
        {rule.id: rule for rule in listed},
        {name: tuple(found) for name, found in by_destination.items()},
        {rule.id: timestamp(rule.expires) for rule in listed if rule.expires},
        {rule.id: (written or {}).get(rule.id, Written()) for rule in listed},
        tuple(sorted(unconfirmed, key=lambda waiting: waiting.revision)),
    )


def apply(book: Rulebook, change: Change) -> Rulebook:
    """The Rulebook after ``change``; destinations that it leaves alone keep the very same tuples."""
    rules, expiring, written = dict(book.rules), dict(book.expiring), dict(book.written)
    by_destination = dict(book.by_destination)
    for rule in change.before:
        del rules[rule.id], written[rule.id]
        expiring.pop(rule.id, None)
    newest = book.newest
    for rule in change.after:
        rules[rule.id] = rule
        written[rule.id] = Written(change.revision, change.at)
        newest = max(newest, micros(rule.created))
        if rule.expires:
            expiring[rule.id] = timestamp(rule.expires)
    gone = {rule.id for rule in change.before}
    for destination in change.destinations:
        kept = [rule for rule in by_destination.get(destination, ()) if rule.id not in gone]
        kept += [rule for rule in change.after if rule.destination == destination]
        if kept:
            by_destination[destination] = tuple(in_order(kept))
        else:
            by_destination.pop(destination, None)
    return Rulebook(
        change.revision, newest, rules, by_destination, expiring, written, waiting(book.unconfirmed, change)
    )


def waiting(before: Iterable[Unconfirmed], change: Change) -> tuple[Unconfirmed, ...]:
    """What waits for a confirmation after ``change``. A lapse is nobody: it touches nothing."""
    found = list(before)
    if change.cause in ("confirm", "revert"):
        found = [one for one in found if one.revision not in change.about]
    if change.cause != "lapse" and (touched := change.ids):
        found = [one.without(touched) for one in found]
    if change.confirm_by:
        ids = tuple(rule.id for rule in change.after)
        found.append(Unconfirmed(change.revision, change.confirm_by, change.before, ids))
    return tuple(found)


def micros(created: str) -> int:
    """Microseconds since the epoch of a time that ``rfc3339`` wrote."""
    return round(timestamp(created) * 1e6)
