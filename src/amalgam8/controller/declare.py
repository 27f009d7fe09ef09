"""Making the rules what a document says: what to create, to replace and to remove, as one revision.

Pure. A document stands for all rules, or for those that carry certain tags. A rule that already says the
same stays untouched, whatever its age, author and remaining life. Refuses rules without an id, since
nothing else could say which rule they are.
"""

from collections.abc import Sequence

import msgspec

from amalgam8.controller.book import Change, Rulebook
from amalgam8.controller.rulebook import Selection, Write, changed, finished, select, some
from amalgam8.model.errors import InvalidRule, Problem, RuleElsewhere
from amalgam8.model.rule import Rule, timestamp


def declare(
    book: Rulebook, rules: Sequence[Rule], tags: Sequence[str], write: Write, *, prune: bool = True
) -> Change | None:
    """Make the rules that carry all ``tags`` equal to ``rules``; None: they are already.

    Without ``prune``, what ``rules`` does not mention stays.

    Raises:
        InvalidRule: a rule without an id or without the tags, or whose ``expires`` has passed.
        RuleElsewhere: an id belongs to a rule that does not carry the tags.
        TooManyRules: above KEPT_LIMIT.
    """
    _check(rules, tags)
    ours = {rule.id: rule for rule in select(book, Selection(tags=tuple(tags)))}
    foreign = sorted(rule.id for rule in rules if rule.id in book.rules and rule.id not in ours)
    if foreign:
        raise RuleElsewhere(f"the id {some(foreign)} belongs to a rule without the tag {', '.join(tags)}")
    fresh = [rule for rule in rules if rule.id not in ours or not same(ours[rule.id], rule, write)]
    named = {rule.id for rule in rules}
    replaced = {rule.id for rule in fresh}
    before = tuple(rule for rule in ours.values() if rule.id in replaced or (prune and rule.id not in named))
    after = finished(book, fresh, write)
    return changed(book, "apply", before, after, write) if before or after else None


def same(stored: Rule, given: Rule, write: Write) -> bool:
    """Whether ``given``, as a client sends it, says what ``stored`` says already."""
    return _said(stored) == _said(given) and _same_life(stored, given, write)


def _said(rule: Rule) -> Rule:
    return msgspec.structs.replace(rule, created="", author="", expires="", ttl=None)


def _same_life(stored: Rule, given: Rule, write: Write) -> bool:
    """A ``ttl`` runs on: only a rule without end is another one."""
    if given.expires:
        return bool(stored.expires) and timestamp(stored.expires) == timestamp(given.expires)
    ttl = write.fault_ttl if given.ttl is None and given.has_fault else given.ttl
    return bool(stored.expires) == bool(ttl)


def _check(rules: Sequence[Rule], tags: Sequence[str]) -> None:
    problems = [
        Problem(f"$.rules[{i}].id", "is missing: a rule that is declared needs one")
        for i, rule in enumerate(rules)
        if not rule.id
    ]
    problems += [
        Problem(f"$.rules[{i}].tags", f"lacks {tag}, which the request's tag asks of every rule")
        for i, rule in enumerate(rules)
        for tag in tags
        if tag not in rule.tags
    ]
    if problems:
        raise InvalidRule(problems)
