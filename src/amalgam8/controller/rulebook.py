"""The rules of one tenant at one revision, and what writing to them means.

Pure: the time and new ids are arguments. An operation looks at a Rulebook and returns the Change that
would follow, or raises and nothing has happened; ``apply`` makes the next Rulebook of it. A Change holds
whole rules before and after, so that it can be shown, and taken back, by itself.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Literal

import msgspec

from amalgam8.model.errors import (
    InvalidRule,
    Problem,
    RuleElsewhere,
    RuleExists,
    RuleNotFound,
    TooManyRules,
)
from amalgam8.model.rule import Rule, in_order, rfc3339, timestamp

KEPT_LIMIT = 20_000
"""Rules of one tenant."""

Kind = Literal["route", "action"]
Cause = Literal["create", "replace", "remove", "replace-for-destination", "lapse"]


class Change(msgspec.Struct, frozen=True):
    """One revision: rules that were (``before``) and rules that are (``after``) in their place.

    A rule in ``after`` only is new, one in ``before`` only is gone. ``at`` is RFC 3339.
    """

    revision: int
    at: str
    cause: Cause
    before: tuple[Rule, ...] = ()
    after: tuple[Rule, ...] = ()
    request_id: str = ""

    @property
    def destinations(self) -> frozenset[str]:
        """Every destination that may mean something else from this revision on."""
        return frozenset(rule.destination for rules in (self.before, self.after) for rule in rules)


class Rulebook(msgspec.Struct, frozen=True):
    """All rules, by id and by destination (there in the order in which they are tried).

    ``newest`` is the latest ``created`` ever given, in microseconds since the epoch; ``expiring`` has the
    time (s) of each rule that lapses.
    """

    revision: int = 0
    newest: int = 0
    rules: Mapping[str, Rule] = {}
    by_destination: Mapping[str, tuple[Rule, ...]] = {}
    expiring: Mapping[str, float] = {}

    @property
    def next_lapse(self) -> float | None:
        """When the next rule lapses, in seconds since the epoch."""
        return min(self.expiring.values(), default=None)


class Selection(msgspec.Struct, frozen=True):
    """Rules with one of ``ids``, all ``tags`` and one of ``destinations``; what is empty does not count."""

    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    kind: Kind | None = None


class Write(msgspec.Struct, frozen=True):
    """What a write needs from outside: ``now`` in seconds since the epoch, a maker of ids, a default.

    ``fault_ttl`` (s) is the life of fault rules that say nothing of theirs.
    """

    now: float
    new_id: Callable[[], str]
    fault_ttl: float
    request_id: str = ""


def book_of(rules: Iterable[Rule], revision: int, newest: int) -> Rulebook:
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
    )


def select(book: Rulebook, selection: Selection) -> list[Rule]:
    """The rules that fit, in order.

    Raises:
        RuleNotFound: one of the ids is not known.
    """
    _known(book, selection.ids)
    found: Iterable[Rule] = (
        [book.rules[identity] for identity in dict.fromkeys(selection.ids)]
        if selection.ids
        else book.rules.values()
    )
    tags, destinations = set(selection.tags), set(selection.destinations)
    return in_order(
        rule
        for rule in found
        if tags <= set(rule.tags)
        and (not destinations or rule.destination in destinations)
        and selection.kind in (None, kind_of(rule))
    )


def kind_of(rule: Rule) -> Kind:
    return "route" if rule.route is not None else "action"


def create(book: Rulebook, rules: Sequence[Rule], write: Write) -> Change:
    """Add rules; those without an id get one.

    Raises:
        RuleExists: an id is taken.
        TooManyRules, InvalidRule: above KEPT_LIMIT; ``expires`` has passed.
    """
    taken = sorted(rule.id for rule in rules if rule.id in book.rules)
    if taken:
        raise RuleExists(f"there is a rule {_some(taken)} already; PUT replaces it")
    return _change(book, "create", (), _finished(book, rules, write), write)


def replace(book: Rulebook, rules: Sequence[Rule], write: Write) -> Change:
    """Put whole rules in place of those of the same ids, which keep their age.

    Raises:
        InvalidRule: a rule has no id, or ``expires`` has passed.
        RuleNotFound: an id is not known.
    """
    nameless = [
        Problem(f"$.rules[{i}].id", "is missing: say which rule to replace")
        for i, rule in enumerate(rules)
        if not rule.id
    ]
    if nameless:
        raise InvalidRule(nameless)
    _known(book, [rule.id for rule in rules])
    before = tuple(book.rules[rule.id] for rule in rules)
    return _change(book, "replace", before, _finished(book, rules, write), write)


def remove(book: Rulebook, selection: Selection, write: Write) -> Change:
    """Remove what ``selection`` fits, which may be nothing.

    Raises:
        RuleNotFound: one of the ids is not known.
    """
    return _change(book, "remove", tuple(select(book, selection)), (), write)


def replace_for(book: Rulebook, kind: Kind, destination: str, rules: Sequence[Rule], write: Write) -> Change:
    """Put ``rules`` in place of all rules of this kind and destination; known ids keep their age.

    Raises:
        InvalidRule: a rule of another kind or destination, or ``expires`` has passed.
        RuleElsewhere: an id belongs to a rule of another destination or kind.
        TooManyRules: above KEPT_LIMIT.
    """
    problems = []
    for i, rule in enumerate(rules):
        if rule.destination != destination:
            problems.append(
                Problem(
                    f"$.rules[{i}].destination",
                    f"is {rule.destination}, but the path says {destination}",
                )
            )
        if kind_of(rule) != kind:
            problems.append(Problem(f"$.rules[{i}]", f"is no {kind} rule, which is what the path is for"))
    if problems:
        raise InvalidRule(problems)
    before = tuple(select(book, Selection(destinations=(destination,), kind=kind)))
    ours = {rule.id for rule in before}
    foreign = sorted(rule.id for rule in rules if rule.id in book.rules and rule.id not in ours)
    if foreign:
        raise RuleElsewhere(f"the id {_some(foreign)} belongs to a rule of another destination or kind")
    return _change(book, "replace-for-destination", before, _finished(book, rules, write), write)


def lapse(book: Rulebook, write: Write) -> Change | None:
    """Remove the rules whose time is over; None: there are none."""
    over = [book.rules[identity] for identity, at in book.expiring.items() if at <= write.now]
    return _change(book, "lapse", tuple(in_order(over)), (), write) if over else None


def apply(book: Rulebook, change: Change) -> Rulebook:
    """The Rulebook after ``change``; destinations that it leaves alone keep the very same tuples."""
    rules, expiring = dict(book.rules), dict(book.expiring)
    by_destination = dict(book.by_destination)
    for rule in change.before:
        del rules[rule.id]
        expiring.pop(rule.id, None)
    newest = book.newest
    for rule in change.after:
        rules[rule.id] = rule
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
    return Rulebook(change.revision, newest, rules, by_destination, expiring)


def micros(created: str) -> int:
    """Microseconds since the epoch of a time that ``rfc3339`` wrote."""
    return round(timestamp(created) * 1e6)


def _change(
    book: Rulebook, cause: Cause, before: tuple[Rule, ...], after: tuple[Rule, ...], write: Write
) -> Change:
    kept = len(book.rules) - len(before) + len(after)
    if len(after) > len(before) and kept > KEPT_LIMIT:
        raise TooManyRules(f"there would be {kept} rules; at most {KEPT_LIMIT} are kept")
    return Change(book.revision + 1, rfc3339(write.now), cause, before, after, write.request_id)


def _finished(book: Rulebook, rules: Sequence[Rule], write: Write) -> tuple[Rule, ...]:
    """The rules as they are stored: with id, age and end."""
    # Strictly increasing, whatever the clock does, so that (priority, created) is a total order.
    ages = count(max(round(write.now * 1e6), book.newest + 1))
    problems: list[Problem] = []
    finished: list[Rule] = []
    for i, rule in enumerate(rules):
        old = book.rules.get(rule.id)
        expires, ttl = _end(rule, write, f"$.rules[{i}].expires", problems)
        finished.append(
            msgspec.structs.replace(
                rule,
                id=rule.id or write.new_id(),
                created=old.created if old else rfc3339(next(ages) / 1e6),
                author="",
                expires=expires,
                ttl=ttl,
            )
        )
    if problems:
        raise InvalidRule(problems)
    return tuple(finished)


def _end(rule: Rule, write: Write, path: str, problems: list[Problem]) -> tuple[str, float | None]:
    """``expires`` and ``ttl`` as they are stored.

    A fault that was told to stay for ever keeps its ``ttl: 0``: sent back as it was read, it still does.
    """
    if rule.expires:
        if timestamp(rule.expires) <= write.now:
            problems.append(Problem(path, f"{rule.expires} has passed"))
        return rule.expires, None
    ttl = write.fault_ttl if rule.ttl is None and rule.has_fault else rule.ttl
    if ttl:
        return rfc3339(write.now + ttl), None
    return "", 0.0 if rule.has_fault else None


def _known(book: Rulebook, ids: Iterable[str]) -> None:
    unknown = sorted({identity for identity in ids if identity not in book.rules})
    if unknown:
        raise RuleNotFound(f"there is no rule {_some(unknown)}")


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:10])
    return shown + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
