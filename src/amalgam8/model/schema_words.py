"""Pieces that schemas are made of: objects, lists, texts and numbers with their limits.

Every piece is at most as strict as ``model.document`` reads such values.
"""

from collections.abc import Mapping
from typing import Any

from amalgam8.model.document import TAGS_LIMIT, TEXT_LIMIT

Schema = dict[str, Any]

TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for the characters of a header's name


def an_object(members: Mapping[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    """An object of these members and no other."""
    found: Schema = {"type": "object", "properties": dict(members), "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


def optional(schema: Schema, words: str) -> Schema:
    """A member that may be null, which is the same as not there."""
    return {"anyOf": [schema, {"type": "null"}], "description": words}


def a_list_of(name: str, limit: int, least: int = 0) -> Schema:
    """A list of what ``$defs`` calls so."""
    found: Schema = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, "maxItems": limit}
    return {**found, "minItems": least} if least else found


def tags(*, distinct: bool = True, least: int = 0) -> Schema:
    """A list of tags; ``distinct``: none twice."""
    return {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT},
        "maxItems": TAGS_LIMIT,
        **({"uniqueItems": True} if distinct else {}),
        **({"minItems": least} if least else {}),
    }


def text(pattern: str = "", limit: int = 0) -> Schema:
    """Text that a pattern matches as a whole, of at most so many characters."""
    return {
        "type": "string",
        **({"pattern": f"^{pattern}$"} if pattern else {}),
        **({"maxLength": limit} if limit else {}),
    }


def number(low: float, high: float) -> Schema:
    """A number within these bounds, both included."""
    return {"type": "number", "minimum": low, "maximum": high}


def above(low: float, high: float) -> Schema:
    """A number above ``low``."""
    return {"type": "number", "exclusiveMinimum": low, "maximum": high}


def whole(low: int, high: int) -> Schema:
    """A whole number within these bounds."""
    return {"type": "integer", "minimum": low, "maximum": high}


def given(name: str, kind: str) -> Schema:
    """Holds where an object has this member, of this kind."""
    return {"required": [name], "properties": {name: {"type": kind}}}


def nothing(kind: str) -> Schema:
    """A value of this kind that is empty, or null."""
    size = {"array": "maxItems", "string": "maxLength"}[kind]
    return {"anyOf": [{"type": kind, size: 0}, {"type": "null"}]}


def folded(word: str) -> str:
    """A pattern that finds the word in any case: schemas know no flags."""
    return "".join(f"[{char.upper()}{char}]" if char.isalpha() else char for char in word)
