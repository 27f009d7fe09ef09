"""How answers look: tables with ``+---+`` borders, JSON or YAML on standard output.

Plain text that ends up in a terminal or a pipe alike. Refuses to let a server or a file control the
terminal: control characters are shown, never sent.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, TextIO


class Form(StrEnum):
    """Forms of a listing."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Document(StrEnum):
    """Forms of rules, which do not fit into a table."""

    JSON = "json"
    YAML = "yaml"


COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "grey": 90}


def say(text: str) -> None:
    """One or more lines on standard output."""
    sys.stdout.write(text + "\n")


def clean(text: str) -> str:
    """``text`` as one printable line: control characters become visible escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def one_line(text: str) -> str:
    """``text`` with its white space, line breaks included, made single spaces."""
    return clean(" ".join(text.split()))


class Coloured(str):
    """A text and what makes it a colour on a terminal; as a text it has none."""

    __slots__ = ("colour",)
    colour: str

    def painted(self, text: str) -> str:
        """``text`` in this colour, where standard output is a terminal whose user has not said no."""
        if not wants_colour(sys.stdout):
            return text
        return f"\x1b[{COLOURS[self.colour]}m{text}\x1b[0m"


def coloured(text: str, colour: str) -> Coloured:
    """A text in one of COLOURS; control characters in it are shown."""
    found = Coloured(clean(text))
    found.colour = colour
    return found


def painted(text: str) -> str:
    """A text for standard output: in its colour, if it has one."""
    return text.painted(text) if isinstance(text, Coloured) else text


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of left-aligned cells with borders around header and body."""
    cells = [[cell if isinstance(cell, Coloured) else clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def padded(cell: str, width: int) -> str:
        return cell.painted(cell.ljust(width)) if isinstance(cell, Coloured) else cell.ljust(width)

    def line(row: Sequence[str]) -> str:
        return (
            "|" + "|".join(f" {padded(cell, width)} " for cell, width in zip(row, widths, strict=True)) + "|"
        )

    return "\n".join([border, line(columns), border, *map(line, cells), *([border] if cells else [])])


def as_json(value: Any) -> str:
    """Indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def as_yaml(value: Any) -> str:
    """Block YAML whose members keep their order."""
    import msgspec
    import yaml

    plain = msgspec.to_builtins(value)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1_000_000).rstrip("\n")


def document(value: Any, form: Document) -> None:
    """Print rules, or anything else that is no table."""
    say(as_json(value) if form is Document.JSON else as_yaml(value))


def listing(form: Form, columns: Sequence[str], rows: Iterable[Sequence[str]], value: Any) -> None:
    """Print ``rows`` as a table, or ``value`` as JSON or YAML."""
    if form is Form.TABLE:
        say(table(columns, rows))
    else:
        document(value, Document(form.value))


def wants_colour(stream: TextIO, environ: Mapping[str, str] | None = None) -> bool:
    """Whether ``stream`` is a terminal whose user has not said no."""
    environ = os.environ if environ is None else environ
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
