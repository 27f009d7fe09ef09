"""Reads a call that is asked about: who makes it, to whom, with which path, method and headers.

The members are those of ``POST /v1/explain`` (``docs/reference/controller-api.md``); files of tests write
calls in the same way. Refuses what no proxy would let through, and more than it could carry.
"""

import re
from collections.abc import Mapping
from typing import Any

from amalgam8.model.action_reader import TOKEN
from amalgam8.model.caller import Caller, caller
from amalgam8.model.rule_reader import RuleReader
from amalgam8.routing.explain import Call

MEMBERS = ("source", "destination", "path", "method", "headers")
PATH_LIMIT = 8192
HEADERS_LIMIT = 100
VALUE_LIMIT = 8192
"""Bytes of a path and of a header's value."""

_PATH = re.compile(r"[\x21-\x7e]*")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")


class CallReader(RuleReader):
    """Reads callers and calls; collects findings as every reader does."""

    def call(self, members: Mapping[str, Any], path: str) -> tuple[Caller, Call]:
        """The members of one call, some of which may be missing."""
        destination = self.optional(members, path, "destination", self.service) or ""
        return (
            self.optional(members, path, "source", self.calling) or Caller(),
            Call(
                destination,
                self.call_path(members.get("path"), f"{path}.path", inside=bool(destination)),
                self.optional(members, path, "method", self.method) or "GET",
                self.optional(members, path, "headers", self.values) or {},
            ),
        )

    def calling(self, item: object, path: str) -> Caller:
        found = self.source(item, path)
        if any(not tag for tag in found.tags):
            return Caller(found.name)
        return caller(found.name, found.tags)

    def call_path(self, item: object, path: str, *, inside: bool) -> str:
        """A path inside the destination (``/`` where none is given), or a whole one."""
        if item is None:
            if not inside:
                self.say(path, "is missing: give a destination and a path inside it, or the whole path")
            return "/"
        if not isinstance(item, str):
            self.wrong_type(path, "text")
            return "/"
        if len(item) > PATH_LIMIT:
            self.say(path, f"is longer than {PATH_LIMIT} bytes")
        elif not _PATH.fullmatch(item) or "#" in item:
            self.say(path, "must be a path as it stands in a URL: ASCII, other characters as %XX")
        elif not item.startswith(("/", "?") if inside else "/") and (item or not inside):
            self.say(path, "must begin with /")
        return item

    def method(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text and (not TOKEN.fullmatch(text) or len(text) > 32):
            self.say(path, "is no HTTP method")
        return text

    def values(self, item: object, path: str) -> dict[str, str]:
        """Header names and values, as a request has them."""
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of header names and values")
            return {}
        self.limit(path, len(item), HEADERS_LIMIT, "headers")
        for name, value in item.items():
            at = f"{path}.{name}"
            if not TOKEN.fullmatch(name):
                self.say(at, "is no header name")
            elif not isinstance(value, str):
                self.wrong_type(at, "text")
            elif len(value.encode()) > VALUE_LIMIT or not _VALUE.fullmatch(value):
                self.say(at, f"must be at most {VALUE_LIMIT} bytes without control characters")
        return {name: value for name, value in item.items() if isinstance(value, str)}
