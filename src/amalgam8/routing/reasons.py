"""Why a rule does not match a call: each condition that fails, with the value that it found.

The walk is over the rule's own document, so that a reason names the member that somebody wrote. What a
match means is defined by ``condition`` and ``decide.holds``; a property test holds this to them.
"""

from collections.abc import Iterator, Mapping

import msgspec

from amalgam8.model.caller import Caller
from amalgam8.model.rule import Block, Match, Source
from amalgam8.routing.condition import Condition, fits
from amalgam8.routing.decide import holds

SHOWN = 200
"""Characters of a header's value that a sentence shows."""


class Reason(msgspec.Struct, frozen=True):
    """A condition that fails: its path in the rule, what it asks for, and what the call has.

    ``found`` None: the call has nothing of the kind. ``parts`` are the reasons of the blocks of an ``any``.
    """

    path: str
    wanted: str
    found: str | None
    text: str
    parts: tuple["Reason", ...] = ()


def reasons(match: Match | None, caller: Caller, headers: Mapping[str, str]) -> tuple[Reason, ...]:
    """Why a call of ``caller`` with these headers (lower-case names) is not matched; empty: it is."""
    if match is None:
        return ()
    found = [*_block(Block(match.source, match.headers), "$.match", caller, headers)]
    for i, block in enumerate(match.all):
        found += _block(block, f"$.match.all[{i}]", caller, headers)
    if match.any:
        parts = [
            tuple(_block(block, f"$.match.any[{i}]", caller, headers)) for i, block in enumerate(match.any)
        ]
        if all(parts):
            why = "; ".join(reason.text for part in parts for reason in part)
            flat = tuple(reason for part in parts for reason in part)
            found.append(
                Reason("$.match.any", "one of its blocks", None, f"no block of any holds: {why}", flat)
            )
    for i, block in enumerate(match.none):
        if not list(_block(block, "", caller, headers)):
            path, words = f"$.match.none[{i}]", _words(block)
            found.append(Reason(path, f"not {words}", words, f"{words} holds, which none forbids"))
    return tuple(found)


def _block(block: Block, path: str, caller: Caller, headers: Mapping[str, str]) -> Iterator[Reason]:
    if not fits(block.source, caller) and block.source is not None:
        yield from _source(block.source, f"{path}.source", caller)
    for name, pattern in block.headers.items():
        key = name.lower()
        if not holds(Condition(((key, pattern),)), headers):
            value = headers.get(key)
            text = (
                f"the call has no header {name}"
                if value is None
                else f"the header {name} is {_shown(value)!r}, and {pattern!r} is not found in it"
            )
            yield Reason(f"{path}.headers.{name}", pattern, value, text)


def _source(source: Source, path: str, caller: Caller) -> Iterator[Reason]:
    if source.name not in ("", caller.service):
        who = caller.service or "a caller without a service"
        text = f"the caller is {who}, not {source.name}"
        yield Reason(f"{path}.name", source.name, caller.service or None, text)
    missing = sorted(set(source.tags) - set(caller.tags))
    if missing:
        has = ", ".join(caller.tags)
        text = f"the caller lacks the tag {', '.join(missing)}; it has {has or 'none'}"
        yield Reason(f"{path}.tags", ", ".join(sorted(source.tags)), has or None, text)


def _words(block: Block) -> str:
    """What a block asks for."""
    words = []
    if block.source is not None:
        words.append(f"source {Caller(block.source.name or 'any', block.source.tags)}")
    words += [f"header {name} {pattern!r}" for name, pattern in block.headers.items()]
    return " and ".join(words) or "a block without conditions"


def _shown(value: str) -> str:
    return value if len(value) <= SHOWN else value[: SHOWN - 1] + "…"
