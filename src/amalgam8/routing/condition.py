"""Conditions on a request: what is left of a rule's match once its sources are decided for one caller.

A condition is a conjunction: every pattern of ``headers`` is found, from each group of ``any`` one
conjunction holds, and no conjunction of ``none`` does. That form is closed under "and", and both proxies
can say it. Pure text: nothing is matched here.
"""

from collections.abc import Iterable

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.model.rule import Block, Match, Source

Pattern = tuple[str, str]
"""Lower-case header name and RE2 pattern, found by search."""

Conjunction = tuple[Pattern, ...]
"""Patterns that are all found."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request must show. Nothing to show: always true."""

    headers: Conjunction = ()
    any: tuple[tuple[Conjunction, ...], ...] = ()
    none: tuple[Conjunction, ...] = ()

    def implies(self, other: "Condition") -> bool:
        """Whether each request that meets this surely meets ``other`` (decided by their text alone)."""
        return (
            set(other.headers) <= set(self.headers)
            and set(other.any) <= set(self.any)
            and set(other.none) <= set(self.none)
        )

    def both(self, other: "Condition") -> "Condition":
        """The condition that holds where this and ``other`` hold."""
        return Condition(
            tuple(sorted({*self.headers, *other.headers})),
            tuple(sorted({*self.any, *other.any})),
            tuple(sorted({*self.none, *other.none})),
        )


ALWAYS = Condition()


def fits(source: Source | None, caller: Caller) -> bool:
    """Whether the caller is one of those that ``source`` means; no source means every caller."""
    return source is None or (source.name in ("", caller.service) and set(source.tags) <= set(caller.tags))


def condition(match: Match | None, caller: Caller) -> Condition | None:
    """What ``match`` asks of a request of this caller; None if no request of the caller can meet it."""
    if match is None:
        return ALWAYS
    needed = [Block(match.source, match.headers), *match.all]
    if not all(fits(block.source, caller) for block in needed):
        return None
    choices = [_patterns(block.headers) for block in match.any if fits(block.source, caller)]
    if match.any and not choices:
        return None
    headers = {pattern for block in needed for pattern in _patterns(block.headers)}
    banned = [_patterns(block.headers) for block in match.none if fits(block.source, caller)]
    if any(set(each) <= headers for each in banned):  # it bans what it asks for, or every request
        return None
    # A choice without patterns holds for every request, and so does one that asks only what is asked anyway.
    free = not choices or any(set(choice) <= headers for choice in choices)
    found = Condition(tuple(sorted(headers)), () if free else (_distinct(choices),), _distinct(banned))
    return ALWAYS if found == ALWAYS else found  # the same object, which JSON leaves out


def _patterns(headers: dict[str, str]) -> Conjunction:
    return tuple(sorted((name.lower(), pattern) for name, pattern in headers.items()))


def _distinct(found: Iterable[Conjunction]) -> tuple[Conjunction, ...]:
    return tuple(sorted(set(found)))
