"""Reads rule documents: JSON or YAML, from a file or standard input.

What is wrong with the text is told with file, line and column. A bare list or a single rule gets its
``rules:`` wrapper. Refuses what JSON cannot say, duplicate members, merge keys, and more than SIZE_LIMIT.
Whether the rules are sound is the controller's to say.
"""

import json
import math
import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from amalgam8.model.errors import InvalidInput

SIZE_LIMIT = 16 * 1024 * 1024
VALUES_LIMIT = 1_000_000
"""Values in one document once aliases are followed; a few hundred bytes of YAML can stand for billions."""
DEPTH_LIMIT = 100

STDIN = "standard input"

Rules = list[Any]


class BadText(InvalidInput):
    """What is wrong with a document as a text; ``line`` and ``column`` from 1, 0 where they are not known."""

    def __init__(self, name: str, reason: str, line: int = 0, column: int = 0) -> None:
        super().__init__(f"{name}: {f'line {line}, column {column}: ' if line else ''}{reason}")
        self.reason = reason
        self.line = line
        self.column = column


def read_rules(path: str, *, quiet: bool = False) -> Rules:
    """The rules in the file at ``path``, or on standard input where that is empty or ``-``.

    Raises:
        InvalidInput: it cannot be read, or is no JSON or YAML; one sentence that says where.
    """
    text, name = read_text(path, quiet=quiet)
    return rules_in(parse(text, name), name)


def read_text(path: str, *, quiet: bool = False) -> tuple[str, str]:
    """The text at ``path``, as read_rules looks for it, and the name that findings call it by."""
    if path in ("", "-"):
        return _standard_input(quiet), STDIN
    return read_file(path), path


def read_file(path: str | Path, limit: int = SIZE_LIMIT) -> str:
    """The text of a file of at most ``limit`` bytes."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidInput(f"cannot read {path!r}: {error}") from None
    return _text(data, str(path), limit)


def parse(text: str, name: str) -> Any:
    """The value that ``text`` stands for; ``name`` is where it came from.

    Raises:
        InvalidInput: with line and column where there are any.
    """
    if name.endswith(".json"):
        value = _json(text, name)
    elif name == STDIN and text.lstrip()[:1] in ("{", "["):
        # Either language begins like that. YAML takes nearly all of JSON, so JSON has the last word.
        try:
            value = _json(text, name)
        except InvalidInput as error:
            try:
                value = _yaml(text, name)
            except InvalidInput:
                raise error from None
    else:
        value = _yaml(text, name)
    _Check(name).value(value, "$", 0)
    return value


def rules_in(document: Any, name: str) -> Rules:
    """The rules of a document: ``{"rules": […]}``, a bare list, or one rule."""
    if isinstance(document, list):
        rules = document
    elif isinstance(document, dict) and "rules" in document:
        # What rule-get prints carries the revision too.
        if unknown := set(document) - {"rules", "revision"}:
            raise BadText(name, f"$.{min(unknown)}: unknown member beside rules")
        rules = document["rules"]
        if rules is not None and not isinstance(rules, list):
            raise BadText(name, "$.rules: expected a list")
    elif isinstance(document, dict) and document:
        rules = [document]
    elif document is None or document == {}:
        rules = []
    else:
        raise BadText(name, f"expected rules, found a single {type(document).__name__}")
    if not rules:
        raise BadText(name, "holds no rules")
    return rules


def _standard_input(quiet: bool) -> str:
    """Everything up to the end, or up to a line that is ``.json`` or ``.yaml``."""
    if sys.stdin is None:
        raise InvalidInput("give a file with -f")
    if sys.stdin.isatty() and not quiet:
        sys.stderr.write("Rules in JSON or YAML, please; end with Ctrl-D or a line .json or .yaml\n")
    lines: list[bytes] = []
    size = 0
    while line := sys.stdin.buffer.readline(SIZE_LIMIT + 1):
        if line.strip() in (b".json", b".yaml"):
            break
        lines.append(line)
        size += len(line)
        if size > SIZE_LIMIT:
            break
    return _text(b"".join(lines), STDIN)


def _text(data: bytes, name: str, limit: int = SIZE_LIMIT) -> str:
    if len(data) > limit:
        raise InvalidInput(f"{name}: larger than the limit of {limit} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: byte {error.start} is not UTF-8") from None


def _json(text: str, name: str) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise BadText(name, f"the member {key!r} is given twice")
            found[key] = value
        return found

    def constant(word: str) -> NoReturn:
        raise BadText(name, f"{word} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=members, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise BadText(name, error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise BadText(name, "nested too deep") from None
    except ValueError as error:
        raise BadText(name, str(error)) from None


def compose(text: str) -> Any:
    """The nodes of a YAML text that ``parse`` has read, with their marks; None: there are none."""
    return yaml.compose(text, _Loader)


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - built on the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise BadText(name, str(error.problem or error.context), *at) from None
    except yaml.reader.ReaderError as error:
        raise BadText(name, f"character {error.position}: {error.reason}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadText(name, str(error)) from None
    except RecursionError:
        raise BadText(name, "nested too deep") from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # which of the two there is, is known at run time
    """Plain values only: times stay text, and a member given twice or a merge key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = (
                "merge keys (<<) are not supported"
                if key_node.tag == "tag:yaml.org,2002:merge"
                else f"the member {key} must be text; put it in quotes"
                if not isinstance(key, str)
                else f"the member {key} is given twice"
                if key in found
                else ""
            )
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Any:
    found: dict[Hashable, Any] = {}
    yield found
    found.update(loader.construct_mapping(node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:merge", yaml.SafeLoader.construct_yaml_str)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


class _Check:
    """Walks a value and refuses what JSON cannot say."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def value(self, item: object, path: str, depth: int) -> None:
        self._count += 1
        if self._count > VALUES_LIMIT:
            raise BadText(self._name, f"more than the limit of {VALUES_LIMIT} values")
        if depth > DEPTH_LIMIT:
            raise BadText(self._name, f"{path[:80]}…: nested too deep; the limit is {DEPTH_LIMIT}")
        if isinstance(item, dict):
            for key, member in item.items():
                self.text(key, path)
                self.value(member, f"{path}.{key}", depth + 1)
        elif isinstance(item, list):
            for i, member in enumerate(item):
                self.value(member, f"{path}[{i}]", depth + 1)
        elif isinstance(item, str):
            self.text(item, path)
        elif isinstance(item, float) and not math.isfinite(item):
            raise BadText(self._name, f"{path}: {item} is no number that JSON can say")
        elif item is not None and not isinstance(item, (int, float)):
            raise BadText(self._name, f"{path}: a {type(item).__name__} is nothing that JSON can say")

    def text(self, item: str, path: str) -> None:
        if not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise BadText(self._name, f"{path}: half of a surrogate pair is no text") from None
