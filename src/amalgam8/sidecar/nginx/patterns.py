"""RE2 patterns for nginx's PCRE2, with the meaning that RE2 gives them, on the bytes of UTF-8.

PCRE2 reads some texts differently (``$``, ``\\s``, ``\\v``, ``a{,3}``, ``[\\d-z]``, what a character is), so
nothing is left to it but concatenation, alternatives, groups and repeats: of each class, dot and escape,
RE2 itself is asked for its characters, and those are spelled out. Greediness and names do not change
whether a pattern is found, so they are dropped. The common forms need no expression at all.
"""

import functools
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import re2

Kind = Literal["has", "in", "is", "begins", "ends", "regex"]

_PLAIN = re.compile(r"(\^?)([^.^$*+?()\[\]{}|\\]*)(\$?)")
_REPEAT = re.compile(r"[*+?]|\{[0-9]+(,[0-9]*)?\}")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?([:)])")
_NAMED = re.compile(r"\(\?P?<[^>]*>")
_CLASS_PART = re.compile(r"\[:\^?[a-z]+:\]|\\[pP](\{[^}]*\}|.)|\\x\{[^}]*\}|\\.|.", re.DOTALL)
_ESCAPE = re.compile(r"\\([pP](\{[^}]*\}|.)|x\{[^}]*\}|x[0-9A-Fa-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ANCHORS = {"\\A": "\\A", "\\z": "\\z", "\\b": "\\b", "\\B": "\\B", "\\C": "[\\x00-\\xff]"}
_FAR = re.compile(r"[^\x00-\x7f]|\\[pPx]")
"""What can stand for some characters beyond ASCII and not for others."""

_FOLDED = (0x17F, 0x212A)
"""The long s and the Kelvin sign."""

_SURROGATES = (0xD800, 0xDFFF)
_LENGTHS = ((0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, sys.maxunicode))


def test(pattern: str) -> tuple[Kind, str]:
    """How the proxy is to look for ``pattern``: a kind of comparison, and its text.

    Raises:
        ValueError: RE2 does not take the pattern.
    """
    if not pattern:
        return "has", ""
    if plain := _PLAIN.fullmatch(pattern):
        start, text, end = plain.groups()
        if start and end:
            return "is", text
        if text:
            return ("begins" if start else "ends" if end else "in"), text
        return "has", ""
    return "regex", translated(pattern)


def translated(pattern: str) -> str:
    """The same pattern for PCRE2 in byte mode, in ASCII."""
    try:
        re2.compile(pattern)
    except re2.error as error:
        raise ValueError(f"RE2 refuses the pattern {pattern!r}: {error}") from None
    return "".join(_Translation(pattern).pieces())


class _Translation:
    """One pass over a pattern. ``_flags`` are those in force, ``_outer`` those of the groups around."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._flags = frozenset[str]()
        self._outer: list[frozenset[str]] = []

    def pieces(self) -> Iterator[str]:
        while self._at < len(self._text):
            yield self._piece()

    def _piece(self) -> str:
        text, at = self._text, self._at
        if text.startswith("\\Q", at):
            return self._quotation()
        if text[at] == "(":
            return self._group()
        if text[at] == ")":
            self._flags = self._outer.pop()
            return self._plain(")")
        if repeat := _REPEAT.match(text, at):
            self._at = repeat.end()
            if text.startswith("?", self._at):  # lazy: the same for a search
                self._at += 1
            return repeat.group()
        if text[at] == "|":
            return self._plain("|")
        if text[at] == "^":
            return self._plain("(?m:^)" if "m" in self._flags else "\\A")
        if text[at] == "$":
            return self._plain("(?m:$)" if "m" in self._flags else "\\z")
        if text[at] == "\\":
            return self._escape()
        return self._characters(self._class() if text[at] == "[" else text[at])

    def _plain(self, said: str) -> str:
        self._at += 1
        return said

    def _quotation(self) -> str:
        end = self._text.find("\\E", self._at + 2)
        quoted = self._text[self._at + 2 : end if end >= 0 else None]
        self._at = end + 2 if end >= 0 else len(self._text)
        return "".join(
            self._members("\\" + char if char.isascii() and not char.isalnum() else char) for char in quoted
        )

    def _group(self) -> str:
        if flags := _FLAGS.match(self._text, self._at):
            self._at = flags.end()
            changed = (self._flags | set(flags[1])) - set(flags[2] or "")
            if flags[3] == ":":
                self._outer.append(self._flags)
            self._flags = changed
            return "(?:" if flags[3] == ":" else ""
        named = _NAMED.match(self._text, self._at)
        self._at = named.end() if named else self._at + 1
        self._outer.append(self._flags)
        return "(?:"

    def _escape(self) -> str:
        found = _ESCAPE.match(self._text, self._at)
        assert found is not None  # noqa: S101 - RE2 took the pattern, so something follows
        if found.group() in _ANCHORS:
            self._at = found.end()
            return _ANCHORS[found.group()]
        if found.group() == "\\E":
            self._at = found.end()
            return ""
        return self._characters(found.group())

    def _class(self) -> str:
        """The text of the class that begins here."""
        at = self._at + (2 if self._text.startswith("[^", self._at) else 1)
        first = True
        while first or self._text[at] != "]":
            part = _CLASS_PART.match(self._text, at)
            assert part is not None  # noqa: S101 - RE2 took the pattern, so the class ends
            at, first = part.end(), False
        return self._text[self._at : at + 1]

    def _characters(self, atom: str) -> str:
        self._at += len(atom)
        return self._members(atom)

    def _members(self, atom: str) -> str:
        if atom in {"{", "}", "]"}:
            atom = "\\" + atom
        return _bytes_of(atom, "".join(sorted(self._flags & {"i", "s"})))


@functools.lru_cache(maxsize=4096)
def _bytes_of(atom: str, flags: str) -> str:
    """An expression over bytes for the characters that ``atom`` stands for."""
    if len(atom) == 1 and atom.isascii() and (atom.isdigit() or (atom.isalpha() and "i" not in flags)):
        return atom
    if len(atom) == 1 and not atom.isascii() and "i" not in flags:
        return "(?:" + "".join(f"\\x{byte:02x}" for byte in atom.encode()) + ")"
    expression = f"(?{flags}:{atom})" if flags else atom
    choices: list[list[tuple[int, int]]] = []
    for first, last in _far_ranges(expression) if _FAR.search(atom) else _near_ranges(expression):
        for least, most in _LENGTHS:
            low, high = max(first, least), min(last, most)
            if low <= high:
                choices += _rows(chr(low).encode(), chr(high).encode())
    if not choices:
        return "(?!)"
    ascii_only = [row[0] for row in choices if len(row) == 1]
    said = [_class_of(ascii_only)] if ascii_only else []
    said += ["".join(_class_of([pair]) for pair in row) for row in choices if len(row) > 1]
    return said[0] if len(said) == 1 and ascii_only else f"(?:{'|'.join(said)})"


def _near_ranges(expression: str) -> Iterator[tuple[int, int]]:
    """The characters of an ASCII atom: beyond ASCII it holds all or none, but for _FOLDED."""
    program = re2.compile(expression)
    yield from _runs([code for code in range(0x80) if program.fullmatch(chr(code))])
    beyond = program.fullmatch("\u0100") is not None
    odd = [code for code in _FOLDED if (program.fullmatch(chr(code)) is not None) != beyond]
    if not beyond:
        yield from ((code, code) for code in odd)
        return
    edges = [0x7F, *odd, _SURROGATES[0], _SURROGATES[1], sys.maxunicode + 1]
    for before, after in pairwise(edges):
        if before != _SURROGATES[0] and before + 1 <= after - 1:
            yield before + 1, after - 1


def _far_ranges(expression: str) -> Iterator[tuple[int, int]]:
    """The characters that RE2 finds among all there are; takes a tenth of a second."""
    low = "".join(map(chr, range(_SURROGATES[0])))
    high = "".join(map(chr, range(_SURROGATES[1] + 1, sys.maxunicode + 1)))
    program = re2.compile(f"(?:{expression})+")
    for text, offset in ((low, 0), (high, _SURROGATES[1] + 1)):
        for found in program.finditer(text):
            yield found.start() + offset, found.end() - 1 + offset


def _runs(codes: list[int]) -> Iterator[tuple[int, int]]:
    first = None
    for position, code in enumerate(codes):
        first = code if first is None else first
        if position + 1 == len(codes) or codes[position + 1] != code + 1:
            yield first, code
            first = None


def _class_of(ranges: list[tuple[int, int]]) -> str:
    shown = [
        f"\\x{first:02x}" if first == last else f"\\x{first:02x}-\\x{last:02x}" for first, last in ranges
    ]
    return f"[{''.join(shown)}]"


def _rows(low: bytes, high: bytes) -> Iterator[list[tuple[int, int]]]:
    """Rows of byte ranges that together are the UTF-8 texts of one length from ``low`` to ``high``."""
    if len(low) == 1:
        yield [(low[0], high[0])]
        return
    least, most = b"\x80" * (len(low) - 1), b"\xbf" * (len(low) - 1)
    first, last = low[0], high[0]
    if first == last:
        yield from ([(first, first), *row] for row in _rows(low[1:], high[1:]))
        return
    if low[1:] != least:
        yield from ([(first, first), *row] for row in _rows(low[1:], most))
        first += 1
    rest = high[1:] != most
    if rest:
        last -= 1
    if first <= last:
        yield from ([(first, last), *row] for row in _rows(least, most))
    if rest:
        yield from ([(high[0], high[0]), *row] for row in _rows(least, high[1:]))
