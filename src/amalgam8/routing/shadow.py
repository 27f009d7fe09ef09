"""Rules that can never act, because another one of their kind always matches first.

Decided by the text of both conditions alone, so nothing is called shadowed that is not; what only a look
into patterns could show is not seen. Access rules are left out: of those, every one counts.
"""

from collections.abc import Iterator, Sequence

import msgspec

from amalgam8.model.rule import Block, Match, Rule, Source, Uri, in_order, timestamp
from amalgam8.routing.addressing import covers as leads
from amalgam8.routing.verdict import Kind, kinds


class Shadow(msgspec.Struct, frozen=True):
    """``rule`` never acts as these ``kinds``: ``by`` is tried first, and matches whatever it matches.

    ``whole``: it has no kind that is left.
    """

    rule: Rule
    by: Rule
    kinds: tuple[Kind, ...]
    whole: bool


def shadows(rules: Sequence[Rule]) -> Iterator[Shadow]:
    """The shadowed rules among these, of any destinations; those of one in the order they are tried."""
    before: dict[str, list[Rule]] = {}
    for rule in in_order(rules):
        above = before.setdefault(rule.destination, [])
        hidden: dict[Kind, Rule] = {}
        for kind in kinds(rule):
            by = next((each for each in above if _hides(each, rule, kind)), None)
            if by is not None:
                hidden[kind] = by
        for identity, by in {each.id: each for each in hidden.values()}.items():
            mine = tuple(kind for kind, each in hidden.items() if each.id == identity)
            yield Shadow(rule, by, mine, mine == kinds(rule))
        above.append(rule)


def covers(wide: Match | None, narrow: Match | None) -> bool:
    """Whether every call that ``narrow`` matches is surely matched by ``wide`` too."""
    if wide is None:
        return True
    if narrow is None:
        return False
    given = [Block(narrow.source, narrow.headers), *narrow.all]
    needed = [Block(wide.source, wide.headers), *wide.all]
    return (
        all(_follows(block, given) for block in needed)
        and _one_follows(wide.any, given, narrow.any)
        and all(any(_follows(theirs, [ours]) for theirs in narrow.none) for ours in wide.none)
    )


def _one_follows(choices: Sequence[Block], given: Sequence[Block], theirs: Sequence[Block]) -> bool:
    """Whether one of ``choices`` holds wherever all of ``given`` do, and one of ``theirs``, if any."""
    if not choices or any(_follows(choice, given) for choice in choices):
        return True
    return bool(theirs) and all(
        any(_follows(choice, [*given, each]) for choice in choices) for each in theirs
    )


def _follows(block: Block, given: Sequence[Block]) -> bool:
    """Whether ``block`` holds wherever all of ``given`` do."""
    there = {(name.lower(), pattern) for each in given for name, pattern in each.headers.items()}
    asked = {(name.lower(), pattern) for name, pattern in block.headers.items()}
    source = block.source
    known = source is None or any(each.source is not None and _wider(source, each.source) for each in given)
    return known and asked <= there


def _wider(wide: Source, narrow: Source) -> bool:
    return wide.name in ("", narrow.name) and set(wide.tags) <= set(narrow.tags)


def _hides(above: Rule, rule: Rule, kind: Kind) -> bool:
    return (
        kind != "access"
        and kind in kinds(above)
        and (kind != "route" or _reached_first(above, rule))
        and _outlives(above, rule)
        and covers(above.match, rule.match)
    )


def _reached_first(above: Rule, rule: Rule) -> bool:
    """Whether the routes are reached in the same way: by the service's address, or by paths that cover."""
    ours, theirs = _uri(above), _uri(rule)
    if ours is None or theirs is None:
        return ours is theirs
    if ours.path:
        return ours.path == theirs.path
    return leads("", ours.prefix, theirs.path or theirs.prefix)


def _uri(rule: Rule) -> Uri | None:
    return rule.route.uri if rule.route is not None else None


def _outlives(above: Rule, rule: Rule) -> bool:
    """Whether ``above`` is there for as long as ``rule`` is."""
    (how, until), (theirs, end) = _end(above), _end(rule)
    return how == "never" or (how == theirs and until >= end)


def _end(rule: Rule) -> tuple[str, float]:
    if rule.expires:
        return ("at", timestamp(rule.expires))
    if rule.ttl:
        return ("after", rule.ttl)
    return ("by default", 0) if rule.has_fault and rule.ttl is None else ("never", 0)
