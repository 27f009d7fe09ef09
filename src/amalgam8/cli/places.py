"""Where in a text each member of a document stands: the path of a finding becomes line and column.

For YAML the parser's own marks; JSON is scanned again, for its own parser tells no places. The text has been
read before, so it is known to be well formed. Paths are written as findings write them: ``$.rules[0].match``.
"""

import bisect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from amalgam8.cli import documents

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+)')


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


class Places:
    """The places of a document. ``root`` is the path that its outermost value has in findings."""

    def __init__(self, text: str, name: str, root: str = "$") -> None:
        self._values: dict[str, Place] = {}
        self._members: dict[str, Place] = {}
        if name.endswith(".json"):
            for path, key, value in _Scanner(text).places(root):
                self._put(path, key, value)
        elif (node := documents.compose(text)) is not None:
            for path, key, value in _marks(node, root):
                self._put(path, key, value)

    def of(self, path: str, *, member: bool = False) -> Place:
        """Where the value at ``path`` stands, or its member's name; if missing: what it is missing in."""
        found = self._members.get(path) if member else None
        while found is None and path not in self._values:
            shorter = max((path.rfind(sign) for sign in ".["), default=-1)
            if shorter <= 0:
                return Place(1, 1)
            path = path[:shorter]
        return found or self._values[path]

    def _put(self, path: str, key: Place | None, value: Place) -> None:
        self._values[path] = value
        if key is not None:
            self._members[path] = key


Found = tuple[str, Place | None, Place]
"""Path, place of the member's name if it has one, place of the value."""


def _marks(node: Any, path: str, key: Place | None = None) -> Iterator[Found]:
    mark = node.start_mark
    yield path, key, Place(mark.line + 1, mark.column + 1)
    if node.id == "mapping":
        for name, value in node.value:
            at = Place(name.start_mark.line + 1, name.start_mark.column + 1)
            yield from _marks(value, f"{path}.{name.value}", at)
    elif node.id == "sequence":
        for i, item in enumerate(node.value):
            yield from _marks(item, f"{path}[{i}]")


class _Scanner:
    """Walks the tokens of a JSON text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def places(self, path: str, key: Place | None = None) -> Iterator[Found]:
        sign, place = self._next()
        yield path, key, place
        if sign == "{":
            yield from self._object(path)
        elif sign == "[":
            yield from self._array(path)

    def _object(self, path: str) -> Iterator[Found]:
        if self._peek() == "}":
            self._next()
            return
        while True:
            name, at = self._next()
            self._next()  # the colon
            yield from self.places(f"{path}.{documents.parse(name, '.json')}", at)
            if self._next()[0] == "}":
                return

    def _array(self, path: str) -> Iterator[Found]:
        if self._peek() == "]":
            self._next()
            return
        i = 0
        while True:
            yield from self.places(f"{path}[{i}]")
            i += 1
            if self._next()[0] == "]":
                return

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        return found.group(1) if found else ""

    def _next(self) -> tuple[str, Place]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            return "", Place(1, 1)
        self._at = found.end()
        start = found.start(1)
        line = bisect.bisect_right(self._lines, start)
        return found.group(1), Place(line, start - self._lines[line - 1] + 1)
