"""Taking changes back: rolling back to a revision, and confirmed changes.

Pure. Going back is a new revision, all or nothing. A rule whose time is over is never revived, and a
change that nobody confirmed is undone only for the rules that nobody touched since. Refuses to guess what
a revision was that the history does not reach.
"""

from collections.abc import Iterable, Sequence

from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rulebook import Write, changed
from amalgam8.model.errors import InvalidInput, NothingToConfirm, RevisionNotFound, Superseded
from amalgam8.model.rule import Rule, in_order, timestamp


def rules_at(book: Rulebook, log: Sequence[Change], revision: int) -> dict[str, Rule]:
    """The rules as they were at ``revision``; ``log`` holds the changes above it, newest first.

    Raises:
        RevisionNotFound: there was no such revision, or the log does not reach so far back.
        Superseded: the log does not reach up to ``book``: read it again.
    """
    if not 0 <= revision <= book.revision:
        raise RevisionNotFound(f"there is no revision {revision}; the newest is {book.revision}")
    newer = [change for change in log if change.revision > revision]
    if (newer[0].revision if newer else revision) < book.revision:
        raise Superseded(f"the rules went on to revision {book.revision}")
    newer = [change for change in newer if change.revision <= book.revision]
    if [change.revision for change in newer] != list(range(book.revision, revision, -1)):
        raise RevisionNotFound(
            f"revision {revision} is not kept any more; the oldest to go back to is {newer[-1].revision - 1}"
        )
    rules = dict(book.rules)
    for change in newer:
        for rule in change.after:
            del rules[rule.id]
        rules.update((rule.id, rule) for rule in change.before)
    return rules


def rollback(book: Rulebook, log: Sequence[Change], revision: int, write: Write) -> Change:
    """Make the rules what they were at ``revision``, but for those that have lapsed since.

    Raises:
        RevisionNotFound, Superseded: as ``rules_at``.
    """
    wanted = {rule.id: rule for rule in _alive(rules_at(book, log, revision).values(), write)}
    before = [rule for identity, rule in book.rules.items() if wanted.get(identity) != rule]
    after = [rule for identity, rule in wanted.items() if book.rules.get(identity) != rule]
    return changed(book, "rollback", tuple(in_order(before)), tuple(in_order(after)), write, (revision,))


def confirm(book: Rulebook, revision: int, write: Write) -> Change:
    """Let the change of ``revision`` stay.

    Raises:
        NothingToConfirm: it does not wait for that, or its time is over.
    """
    if write.confirm_within is not None:
        raise InvalidInput("a confirmation cannot itself wait for one")
    for waiting in book.unconfirmed:
        if waiting.revision == revision and timestamp(waiting.by) > write.now:
            return changed(book, "confirm", (), (), write, (revision,))
    raise NothingToConfirm(
        f"revision {revision} does not wait to be confirmed: it was confirmed, was undone, or stays anyway"
    )


def revert(book: Rulebook, write: Write) -> Change | None:
    """Undo the newest change whose time to be confirmed is over; None: there is none."""
    over = [waiting for waiting in book.unconfirmed if timestamp(waiting.by) <= write.now]
    if not over:
        return None
    waiting = over[-1]
    before = [book.rules[identity] for identity in waiting.after if identity in book.rules]
    after = _alive(waiting.before, write)
    return changed(
        book, "revert", tuple(in_order(before)), tuple(in_order(after)), write, (waiting.revision,)
    )


def _alive(rules: Iterable[Rule], write: Write) -> list[Rule]:
    return [rule for rule in rules if not rule.expires or timestamp(rule.expires) > write.now]
