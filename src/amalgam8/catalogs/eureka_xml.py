"""XML of Eureka to and from the shape that its JSON has. Pure.

Attributes become members that begin with ``@``, text beside attributes the member ``$``, as in Eureka's own
JSON; applications and instances are always lists. Refuses document types, and with them entities; elements
nested deeper than DEPTH_LIMIT; more than ELEMENTS_LIMIT of them. Members whose name is no XML name are left
out when writing.
"""

import re
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from amalgam8.model.errors import BadAnswer

DEPTH_LIMIT = 12
ELEMENTS_LIMIT = 10_000_000

_NAME = re.compile(r"[A-Za-z_][\w.\-]*", re.ASCII)
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LISTS = frozenset({("applications", "application"), ("application", "instance")})
_OBJECTS = frozenset({"applications", "application", "instance", "metadata", "leaseInfo", "dataCenterInfo"})


def from_xml(data: bytes) -> dict[str, Any]:
    """The document as ``{root: value}``.

    Raises:
        BadAnswer: no XML, or something that is refused.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise BadAnswer(f"line {error.lineno}, column {error.offset + 1}: no XML: {what}") from None
    except (ValueError, LookupError):
        raise BadAnswer("the XML is in an encoding that is not known") from None
    return reader.document


def to_xml(document: dict[str, Any]) -> bytes:
    """``{root: value}`` as UTF-8."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>']
    for name, value in document.items():
        _write(out, name, value)
    return "".join(out).encode()


def _refuse_doctype(*_declared: object) -> None:
    raise BadAnswer("the XML declares a document type, which is refused")


class _Element:
    __slots__ = ("members", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.members: dict[str, Any] = {f"@{key}": value for key, value in attributes.items()}
        self.text: list[str] = []

    def value(self, within: str) -> Any:
        text = "".join(self.text).strip()
        if within == "metadata" and not self.members:
            return text  # whatever its name: it is somebody's key
        if self.name in _OBJECTS:
            return self.members
        if not self.members:
            return text
        if all(key.startswith("@") for key in self.members):
            return {**self.members, "$": text}
        return self.members

    def put(self, name: str, value: Any) -> None:
        if (self.name, name) in _LISTS:
            self.members.setdefault(name, []).append(value)
        elif name in self.members:
            known = self.members[name]
            self.members[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            self.members[name] = value


class _Reader:
    def __init__(self) -> None:
        self.document: dict[str, Any] = {}
        self._open: list[_Element] = []
        self._count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= DEPTH_LIMIT or self._count > ELEMENTS_LIMIT:
            raise BadAnswer(
                f"the XML is nested deeper than {DEPTH_LIMIT} or has more than {ELEMENTS_LIMIT} elements"
            )
        self._open.append(_Element(name, attributes))

    def end(self, name: str) -> None:
        closed = self._open.pop()
        if self._open:
            self._open[-1].put(name, closed.value(self._open[-1].name))
        else:
            self.document[name] = closed.value("")

    def text(self, data: str) -> None:
        self._open[-1].text.append(data)


def _write(out: list[str], name: str, value: Any) -> None:
    if not _NAME.fullmatch(name):
        return
    if isinstance(value, list):
        for one in value:
            _write(out, name, one)
        return
    if not isinstance(value, dict):
        text = _text(value)
        out.append(f"<{name}>{text}</{name}>" if text else f"<{name}/>")
        return
    attributes = "".join(
        f" {key[1:]}={quoteattr(_plain(one))}"
        for key, one in value.items()
        if key.startswith("@") and _NAME.fullmatch(key[1:])
    )
    out.append(f"<{name}{attributes}>{_text(value.get('$'))}")
    for key, one in value.items():
        _write(out, key, one)
    out.append(f"</{name}>")


def _text(value: Any) -> str:
    return escape(_plain(value))


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _NO_XML.sub("\ufffd", str(value))
