"""What writing to the rules of one tenant means.

Pure: the time and new ids are arguments. An operation looks at a Rulebook and returns the Change that
would follow, or raises and nothing has happened.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count

import msgspec

from amalgam8.controller.book import Cause, Change, Kind, Rulebook
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


class Selection(msgspec.Struct, frozen=True):
    """Rules with one of ``ids``, all ``tags`` and one of ``destinations``; what is empty does not count."""

    ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    kind: Kind | None = None


class Write(msgspec.Struct, frozen=True):
    """What a write needs from outside: ``now`` in seconds since the epoch, a maker of ids, a default.

    ``fault_ttl`` (s) is the life of fault rules that say nothing of theirs. ``confirm_within`` (s): the
    change is undone by then unless it is confirmed.
    """

    now: float
    new_id: Callable[[], str]
    fault_ttl: float
    request_id: str = ""
    author: str = ""
    comment: str = ""
    confirm_within: float | None = None


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
        raise RuleExists(f"there is a rule {some(taken)} already; PUT replaces it")
    return changed(book, "create", (), finished(book, rules, write), write)


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
    return changed(book, "replace", before, finished(book, rules, write), write)


def remove(book: Rulebook, selection: Selection, write: Write) -> Change:
    """Remove what ``selection`` fits, which may be nothing.

    Raises:
        RuleNotFound: one of the ids is not known.
    """
    return changed(book, "remove", tuple(select(book, selection)), (), write)


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
        raise RuleElsewhere(f"the id {some(foreign)} belongs to a rule of another destination or kind")
    return changed(book, "replace-for-destination", before, finished(book, rules, write), write)


def lapse(book: Rulebook, write: Write) -> Change | None:
    """Remove the rules whose time is over; None: there are none."""
    over = [book.rules[identity] for identity, at in book.expiring.items() if at <= write.now]
    return changed(book, "lapse", tuple(in_order(over)), (), write) if over else None


def changed(
    book: Rulebook,
    cause: Cause,
    before: tuple[Rule, ...],
    after: tuple[Rule, ...],
    write: Write,
    about: tuple[int, ...] = (),
) -> Change:
    """The next revision.

    Raises:
        TooManyRules: above KEPT_LIMIT, unless a change is undone.
    """
    kept = len(book.rules) - len(before) + len(after)
    if len(after) > len(before) and kept > KEPT_LIMIT and cause != "revert":
        raise TooManyRules(f"there would be {kept} rules; at most {KEPT_LIMIT} are kept")
    return Change(
        book.revision + 1,
        rfc3339(write.now),
        cause,
        before,
        after,
        write.request_id,
        write.author,
        write.comment,
        rfc3339(write.now + write.confirm_within) if write.confirm_within is not None else "",
        about,
    )


def finished(book: Rulebook, rules: Sequence[Rule], write: Write) -> tuple[Rule, ...]:
    """The rules as they are stored: with id, age, author and end.

    Raises:
        InvalidRule: an ``expires`` has passed.
    """
    # Strictly increasing, whatever the clock does, so that (priority, created) is a total order.
    ages = count(max(round(write.now * 1e6), book.newest + 1))
    problems: list[Problem] = []
    done: list[Rule] = []
    for i, rule in enumerate(rules):
        old = book.rules.get(rule.id)
        expires, ttl = _end(rule, write, f"$.rules[{i}].expires", problems)
        done.append(
            msgspec.structs.replace(
                rule,
                id=rule.id or write.new_id(),
                created=old.created if old else rfc3339(next(ages) / 1e6),
                author=write.author,
                expires=expires,
                ttl=ttl,
            )
        )
    if problems:
        raise InvalidRule(problems)
    return tuple(done)


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
        raise RuleNotFound(f"there is no rule {some(unknown)}")


def some(ids: Sequence[str]) -> str:
    """The first ids, and how many more there are."""
    shown = ", ".join(ids[:10])
    return shown + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
