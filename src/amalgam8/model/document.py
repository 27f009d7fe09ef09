"""Walks a decoded JSON document and collects what is wrong with it, each finding with its JSON path.

Values are read leniently, so that one mistake does not hide the next: a reader always returns something
of the right type, and whoever asked must call ``finish``. Refuses to know any language; ``rule_reader``
and ``action_reader`` do.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import re2

from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidJson, InvalidRule, Problem

TAGS_LIMIT = 64
TEXT_LIMIT = 1024
PATTERN_LIMIT = 1024
EMPTY: tuple[object, ...] = (None, "", 0, 0.0, [], {})

T = TypeVar("T")


class DocumentReader:
    """Reads values; collects findings instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.types_wrong = False

    def finish(self) -> None:
        """Raise what was found: InvalidJson if a member has the wrong JSON type, else InvalidRule."""
        if not self.problems:
            return
        error = InvalidRule(self.problems)
        if self.types_wrong:
            raise InvalidJson(str(error))
        raise error

    def say(self, path: str, reason: str) -> None:
        self.problems.append(Problem(path, reason))

    def wrong_type(self, path: str, expected: str) -> None:
        self.types_wrong = True
        self.say(path, f"expected {expected}")

    def unknown(self, path: str, member: str, known: tuple[str, ...]) -> None:
        near = get_close_matches(member, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(known)}"
        self.say(f"{path}.{member}", f"unknown member{hint}")

    def members(
        self, item: object, path: str, *, known: tuple[str, ...], ignored: tuple[str, ...] = ()
    ) -> Mapping[str, Any]:
        """The members of an object, after a look for unknown ones."""
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return {}
        for member in item:
            if member not in known and member not in ignored:
                self.unknown(path, member, known)
        return item

    def optional(
        self, members: Mapping[str, Any], path: str, name: str, read: Callable[[object, str], T]
    ) -> T | None:
        """A member as ``read`` reads it; None if it is absent or null."""
        value = members.get(name)
        return None if value is None else read(value, f"{path}.{name}")

    def limit(self, path: str, count: int, allowed: int, what: str) -> None:
        if count > allowed:
            self.say(path, f"{count} {what}; at most {allowed} are allowed")

    # -- values ----------------------------------------------------------------------------------------

    def text(self, item: object, path: str) -> str:
        if not isinstance(item, str):
            self.wrong_type(path, "text")
            return ""
        if len(item.encode()) > TEXT_LIMIT:
            self.say(path, f"is longer than {TEXT_LIMIT} bytes")
        return item

    def whole(self, item: object, path: str) -> int | None:
        if isinstance(item, bool) or not isinstance(item, int):
            self.wrong_type(path, "a whole number")
            return None
        return item

    def number(self, item: object, path: str) -> float | None:
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            self.wrong_type(path, "a number")
            return None
        return float(item) if abs(item) < 1e18 else 1e18  # as it comes back from a store: always 7.0, never 7

    def share(self, item: object, path: str) -> float:
        """A number from 0 to 1, where 0 means not set."""
        value = self.number(item, path)
        if value is not None and not 0 <= value <= 1:
            self.say(path, "must be between 0 and 1 (0 = not set)")
        return value or 0

    def between(self, low: float, high: float, unit: str = "") -> Callable[[object, str], float]:
        """A reader of numbers within these bounds."""

        def read(item: object, path: str) -> float:
            value = self.number(item, path)
            if value is not None and not low <= value <= high:
                self.say(path, f"must be between {low:g} and {high:g}{unit}")
            return value or 0

        return read

    def whole_between(self, low: int, high: int) -> Callable[[object, str], int]:
        """A reader of whole numbers within these bounds."""

        def read(item: object, path: str) -> int:
            value = self.whole(item, path)
            if value is not None and not low <= value <= high:
                self.say(path, f"must be between {low} and {high}")
            return value or 0

        return read

    def one_of(self, *words: str) -> Callable[[object, str], str]:
        """A reader of one of a few words; an empty text is not set."""

        def read(item: object, path: str) -> str:
            text = self.text(item, path)
            if text and text not in words:
                self.say(path, f"must be one of {', '.join(words)}")
            return text

        return read

    def service(self, item: object, path: str) -> str:
        """The name of a service, or an empty text."""
        text = self.text(item, path)
        if text and (problem := name_problem(text)):
            self.say(path, problem)
        return text

    def tags(self, item: object, path: str) -> tuple[str, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list of texts")
            return ()
        self.limit(path, len(item), TAGS_LIMIT, "tags")
        for i, tag in enumerate(item):
            if not isinstance(tag, str):
                self.wrong_type(f"{path}[{i}]", "text")
            elif not tag or len(tag.encode()) > TEXT_LIMIT:
                self.say(f"{path}[{i}]", f"a tag holds 1 to {TEXT_LIMIT} bytes")
        return tuple(tag for tag in item if isinstance(tag, str))

    def distinct_tags(self, item: object, path: str) -> tuple[str, ...]:
        tags = self.tags(item, path)
        if len(set(tags)) != len(tags):
            self.say(path, "names a tag twice")
        return tags

    def needed_tags(self, members: Mapping[str, Any], path: str, name: str = "tags") -> tuple[str, ...]:
        """Distinct tags of which there must be one at least."""
        given = members.get(name)
        if given is None or given == []:
            self.say(f"{path}.{name}", "must name at least one tag")
            return ()
        return self.distinct_tags(given, f"{path}.{name}")

    def pattern(self, item: object, path: str) -> str:
        """A pattern in RE2's syntax."""
        if not isinstance(item, str):
            self.wrong_type(path, "a pattern (text)")
            return ""
        if len(item.encode()) > PATTERN_LIMIT:
            self.say(path, f"a pattern longer than {PATTERN_LIMIT} bytes")
            return item
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(item, options)
        except re2.error as error:
            text = error.args[0] if error.args else "unreadable"
            text = text.decode(errors="replace") if isinstance(text, bytes) else text
            self.say(path, f"no RE2 pattern: {text}")
        return item
