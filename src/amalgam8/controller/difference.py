"""What a Change changed, in the form that histories and dry runs show it.

Pure. Wire format: ``docs/reference/controller-api.md``. Refuses to show members that say nothing to a
reader, such as a rule's age, as a difference.
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from amalgam8.controller.book import Change
from amalgam8.model.rule import Rule

SILENT = frozenset({"created", "author"})


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One rule's difference; ``members`` names what differs in a rule that was there before and after."""

    id: str
    change: Literal["create", "update", "remove"]
    destination: str
    members: tuple[str, ...] = ()
    before: Rule | None = None
    after: Rule | None = None


class Entry(msgspec.Struct, frozen=True):
    """One revision in the history, without the rules themselves."""

    revision: int
    at: str
    cause: str
    author: str
    comment: str
    request_id: str
    created: tuple[str, ...]
    updated: tuple[str, ...]
    removed: tuple[str, ...]
    about: tuple[int, ...]
    confirm_by: str


class Told(Entry, frozen=True):
    """One revision with its difference."""

    difference: tuple[Step, ...] = ()


def steps(change: Change) -> tuple[Step, ...]:
    """The difference, rule by rule: in the order of ids."""
    before = {rule.id: rule for rule in change.before}
    after = {rule.id: rule for rule in change.after}
    return tuple(
        _step(identity, before.get(identity), after.get(identity)) for identity in sorted(change.ids)
    )


def entry(change: Change) -> Entry:
    return Entry(**_members(change))


def told(change: Change) -> Told:
    return Told(**_members(change), difference=steps(change))


def _members(change: Change) -> dict[str, Any]:
    before, after = _ids(change.before), _ids(change.after)
    return {
        "revision": change.revision,
        "at": change.at,
        "cause": change.cause,
        "author": change.author,
        "comment": change.comment,
        "request_id": change.request_id,
        "created": tuple(sorted(after - before)),
        "updated": tuple(sorted(after & before)),
        "removed": tuple(sorted(before - after)),
        "about": change.about,
        "confirm_by": change.confirm_by,
    }


def _ids(rules: Iterable[Rule]) -> set[str]:
    return {rule.id for rule in rules}


def _step(identity: str, before: Rule | None, after: Rule | None) -> Step:
    either = after or before
    assert either is not None  # noqa: S101 - an id of a Change has a rule on one side
    if before is None or after is None:
        word: Literal["create", "remove"] = "remove" if after is None else "create"
        return Step(identity, word, either.destination, (), before, after)
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    members = sorted(name for name in {*old, *new} - SILENT if old.get(name) != new.get(name))
    return Step(identity, "update", after.destination, tuple(members), before, after)
