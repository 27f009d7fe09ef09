"""One tenant's rules and history as one document, to be kept or moved to another controller.

Pure. Wire format: the answer of ``GET /v1/export``, the body of ``PUT /v1/import``. Rules are checked as
if a client had sent it; ids, ages, authors and revisions stay. Refuses documents of a newer form, and
histories that do not lead to the rules that come with them.
"""

from collections.abc import Sequence

import msgspec

from amalgam8.controller.book import Change, Rulebook, Unconfirmed, Written, book_of, micros
from amalgam8.controller.rulebook import KEPT_LIMIT
from amalgam8.model.errors import InvalidInput, InvalidJson, TooManyRules
from amalgam8.model.rule import Rule, in_order, timestamp
from amalgam8.model.rule_reader import RULES_LIMIT, read_list

FORM = 1
"""Number of this form; a document of a higher one is refused."""


class Archive(msgspec.Struct, frozen=True):
    """``history`` is newest first and has no hole; ``written`` says when each rule was last written."""

    form: int
    revision: int
    newest: int
    rules: tuple[Rule, ...]
    written: dict[str, Written]
    unconfirmed: tuple[Unconfirmed, ...] = ()
    history: tuple[Change, ...] = ()


class _Head(msgspec.Struct, frozen=True):
    form: int


def pack(book: Rulebook, log: Sequence[Change]) -> Archive:
    """The document of a book and its log."""
    rules = in_order(book.rules.values())
    return Archive(
        FORM,
        book.revision,
        book.newest,
        tuple(rules),
        {rule.id: book.written[rule.id] for rule in rules},
        book.unconfirmed,
        tuple(log),
    )


def unpack(body: bytes) -> tuple[Rulebook, tuple[Change, ...]]:
    """The book and the log of a document.

    Raises:
        InvalidJson: it is none.
        InvalidInput: of a newer form, or it contradicts itself.
        InvalidRule, TooManyRules: as for rules that a client sends.
    """
    try:
        head = msgspec.json.decode(body, type=_Head)
        if head.form > FORM:
            raise InvalidInput(
                f"the file has form {head.form}, this controller knows {FORM}: upgrade this controller"
            )
        found = msgspec.json.decode(body, type=Archive)
        for one in (*found.rules, *(rule for waiting in found.unconfirmed for rule in waiting.before)):
            timestamp(one.created)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidJson(f"the file is no export: {error}") from None
    _check(found)
    newest = max([found.newest, *(micros(rule.created) for rule in found.rules)])
    return book_of(found.rules, found.revision, newest, found.written, found.unconfirmed), found.history


def _check(found: Archive) -> None:
    if len(found.rules) > KEPT_LIMIT:
        raise TooManyRules(f"{len(found.rules)} rules; at most {KEPT_LIMIT} are kept")
    if len({rule.id for rule in found.rules}) != len(found.rules) or any(not rule.id for rule in found.rules):
        raise InvalidInput("$.rules: every rule needs an id of its own")
    for start in range(0, len(found.rules), RULES_LIMIT):
        read_list(
            {"rules": msgspec.json.decode(msgspec.json.encode(found.rules[start : start + RULES_LIMIT]))}
        )
    revisions = [change.revision for change in found.history]
    if found.revision < 1 or revisions != list(range(found.revision, found.revision - len(revisions), -1)):
        raise InvalidInput("$.history: revisions must be there without a hole, from the newest down")
    rules = {rule.id: rule for rule in found.rules}
    for change in found.history:
        if any(rules.pop(rule.id, None) != rule for rule in change.after):
            raise InvalidInput(f"$.history: revision {change.revision} does not lead to the rules")
        rules.update((rule.id, rule) for rule in change.before)
