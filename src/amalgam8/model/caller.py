"""Who is calling: the service and tags of one sidecar, written ``name:tag,tag``, and its tenant's name."""

import re

import msgspec

from amalgam8.model.errors import InvalidInput

NAME_LIMIT = 64
TENANT_LIMIT = 128
"""Bytes."""

_FORBIDDEN = re.compile(r"[\s/\x00-\x1f\x7f]")


class Caller(msgspec.Struct, frozen=True, order=True):
    """A calling service. ``tags`` is sorted and without duplicates, so equal callers are equal."""

    service: str = ""
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.service}:{','.join(self.tags)}" if self.tags else self.service


def caller(service: str, tags: tuple[str, ...] | list[str] = ()) -> Caller:
    """Make a Caller from a name and tags in any order."""
    return Caller(service, tuple(sorted(set(tags))))


def parse_caller(text: str) -> Caller:
    """Read ``name[:tag,tag]`` (the form of ``A8_SERVICE``).

    Raises:
        InvalidInput: the name or a tag is empty or cannot be addressed.
    """
    name, _, rest = text.strip().partition(":")
    problem = name_problem(name)
    if problem:
        raise InvalidInput(f"service name {problem}")
    tags = [tag.strip() for tag in rest.split(",")] if rest else []
    if any(not tag for tag in tags):
        raise InvalidInput("an empty tag; write name:tag,tag")
    return caller(name, tags)


def name_problem(name: str) -> str | None:
    """Why a proxy could not address a service of this name, or None if it could."""
    if not name:
        return "is empty"
    if name.isascii() and name.isprintable() and len(name) <= NAME_LIMIT and not ("/" in name or " " in name):
        return None  # as nearly all are: sooner known than that there is nothing wrong
    if len(name.encode()) > NAME_LIMIT:
        return f"is longer than {NAME_LIMIT} bytes"
    if _FORBIDDEN.search(name):
        return "holds a slash, white space or a control character, so no request could address it"
    return None


def tenant_problem(name: str) -> str | None:
    """Why nobody could be named so, or None."""
    if not name:
        return "is empty"
    if len(name.encode(errors="replace")) > TENANT_LIMIT:
        return f"is longer than {TENANT_LIMIT} bytes"
    if not name.isprintable() or any(letter.isspace() for letter in name):
        return "holds white space or a character that cannot be shown"
    return None
