"""How answers look: tables with ``+---+`` borders, JSON or YAML on standard output.

Plain text that ends up in a terminal or a pipe alike. Refuses to let a server or a file control the
terminal: control characters are shown, never sent.
"""

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import msgspec


class Form(StrEnum):
    """Forms of a listing."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class Document(StrEnum):
    """Forms of rules, which do not fit into a table."""

    JSON = "json"
    YAML = "yaml"


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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of left-aligned cells with borders around header and body."""
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+"

    def line(row: Sequence[str]) -> str:
        return "|" + "|".join(f" {cell.ljust(width)} " for cell, width in zip(row, widths, strict=True)) + "|"

    return "\n".join([border, line(columns), border, *map(line, cells), *([border] if cells else [])])


def as_json(value: Any) -> str:
    """Indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def as_yaml(value: Any) -> str:
    """Block YAML whose members keep their order."""
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
