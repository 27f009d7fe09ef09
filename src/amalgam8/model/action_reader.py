"""Reads the actions of a rule. One method for each action; adding one begins here.

The language is that of ``docs/reference/rules.md``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from amalgam8.model.document import DocumentReader
from amalgam8.model.rule import Abort, Action, Allow, Delay, Deny, Mirror, RateLimit, SetHeaders, Trace

ACTIONS_LIMIT = 32
HEADERS_LIMIT = 32
DELAY_LIMIT = 3600.0
RATE_LIMIT = 1_000_000
PERIOD_LIMIT = 86_400.0
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_LOG_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
UNTOUCHABLE = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "keep-alive"}
)
"""Headers that no rule sets or removes, beside those of the mesh itself."""

RECORD_MEMBERS = frozenset(
    {"status", "start_time", "request_time", "upstream_response_time", "src", "dst", "message", "module"}
    | {"method", "path", "protocol", "response_flags", "x_forwarded", "user_agent", "request_id", "auth"}
    | {"upstream_host", "rules", "attempts", "fault", "bytes_received", "bytes_sent"}
)
"""Members of the access record, which a trace must not hide."""


class ActionReader(DocumentReader):
    """Reads ``actions``."""

    def actions(self, item: object, path: str) -> tuple[Action, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list")
            return ()
        self.limit(path, len(item), ACTIONS_LIMIT, "actions")
        read = (self.action(action, f"{path}[{i}]") for i, action in enumerate(item))
        return tuple(action for action in read if action is not None)

    def action(self, item: object, path: str) -> Action | None:
        readers: dict[str, Callable[[dict[str, Any], str], Action]] = {
            "delay": self.delay,
            "abort": self.abort,
            "trace": self.trace,
            "allow": self.allow,
            "deny": self.deny,
            "rate_limit": self.rate_limit,
            "mirror": self.mirror,
            "headers": self.set_headers,
        }
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return None
        kind = item.get("action")
        if isinstance(kind, str) and kind in readers:
            return readers[kind](item, path)
        if kind is not None and not isinstance(kind, str):
            self.wrong_type(f"{path}.action", "text")
        else:
            self.say(f"{path}.action", f"must be one of {', '.join(readers)}")
        return None

    def delay(self, item: dict[str, Any], path: str) -> Delay:
        members = self.members(item, path, known=("action", "duration", "probability", "tags"))
        if members.get("duration") is None:
            self.say(f"{path}.duration", "is missing: give the delay in seconds")
            duration: float = 0
        else:
            duration = self.above_zero(members["duration"], f"{path}.duration", DELAY_LIMIT, " seconds")
        return Delay(duration, *self.dice(members, path))

    def abort(self, item: dict[str, Any], path: str) -> Abort:
        members = self.members(item, path, known=("action", "return_code", "probability", "tags"))
        code: int | None = 0
        if members.get("return_code") is None:
            self.say(f"{path}.return_code", "is missing: give a status from 200 to 599, or -1 for no answer")
        else:
            code = self.whole(members["return_code"], f"{path}.return_code")
            if code is not None and code != -1 and not 200 <= code <= 599:
                self.say(f"{path}.return_code", "must be a status from 200 to 599, or -1 for no answer")
        return Abort(code or 0, *self.dice(members, path))

    def trace(self, item: dict[str, Any], path: str) -> Trace:
        members = self.members(item, path, known=("action", "log_key", "log_value", "tags"))
        key = self.optional(members, path, "log_key", self.text) or ""
        if key and not _LOG_KEY.fullmatch(key):
            self.say(f"{path}.log_key", "must begin with a letter and hold letters, digits and _ . - only")
        elif key in RECORD_MEMBERS:
            self.say(f"{path}.log_key", "is a member that every access record has")
        value = self.optional(members, path, "log_value", self.text) or ""
        return Trace(key, value, self.optional(members, path, "tags", self.distinct_tags) or ())

    def allow(self, item: dict[str, Any], path: str) -> Allow:
        self.members(item, path, known=("action",))
        return Allow()

    def deny(self, item: dict[str, Any], path: str) -> Deny:
        self.members(item, path, known=("action",))
        return Deny()

    def rate_limit(self, item: dict[str, Any], path: str) -> RateLimit:
        members = self.members(item, path, known=("action", "requests", "per", "burst", "key", "scope"))
        if members.get("requests") is None:
            self.say(f"{path}.requests", "is missing: give the number of requests in each period")
            requests: float = 1
        else:
            requests = self.above_zero(members["requests"], f"{path}.requests", RATE_LIMIT)
        limit = RateLimit(
            requests,
            self.optional(members, path, "per", self.between(0, PERIOD_LIMIT, " seconds")) or 1,
            self.optional(members, path, "burst", self.between(0, RATE_LIMIT)) or 0,
            self.optional(members, path, "key", self.bucket_key) or "all",
            self.optional(members, path, "scope", self.one_of("sidecar", "fleet")) or "sidecar",
        )
        if limit.scope == "fleet" and limit.key.startswith("header:"):
            self.say(
                f"{path}.scope",
                "fleet goes with the keys all and caller; budgets by header are the sidecar's",
            )
        return limit

    def bucket_key(self, item: object, path: str) -> str:
        text = self.text(item, path)
        name = text.removeprefix("header:")
        if text in ("", "all", "caller"):
            return text
        if name == text or not TOKEN.fullmatch(name):
            self.say(path, "must be all, caller, or header: and the name of a header")
        return f"header:{name.lower()}"

    def mirror(self, item: dict[str, Any], path: str) -> Mirror:
        members = self.members(item, path, known=("action", "tags", "percent"))
        return Mirror(
            self.needed_tags(members, path),
            self.optional(members, path, "percent", self.between(0, 100)) or 100,
        )

    def set_headers(self, item: dict[str, Any], path: str) -> SetHeaders:
        members = self.members(item, path, known=("action", "set", "remove"))
        values = self.optional(members, path, "set", self.header_values) or {}
        removed = self.optional(members, path, "remove", self.tags) or ()
        for i, name in enumerate(removed):
            self.touchable(name, f"{path}.remove[{i}]")
        self.limit(path, len(values) + len(removed), HEADERS_LIMIT, "headers")
        if not values and not removed:
            self.say(path, "neither sets nor removes a header")
        for name in {name.lower() for name in values} & {name.lower() for name in removed}:
            self.say(path, f"both sets and removes {name}")
        return SetHeaders(values, removed)

    def header_values(self, item: object, path: str) -> dict[str, str]:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of header names and values")
            return {}
        names: dict[str, str] = {}
        for name, value in item.items():
            self.touchable(name, f"{path}.{name}")
            if names.setdefault(name.lower(), name) != name:
                self.say(f"{path}.{name}", f"is the same header as {names[name.lower()]}")
            if not _HEADER_VALUE.fullmatch(self.text(value, f"{path}.{name}")):
                self.say(f"{path}.{name}", "holds a control character")
        return {name: value for name, value in item.items() if isinstance(value, str)}

    def touchable(self, name: str, path: str) -> None:
        """Whether a rule may set or remove this header."""
        if not TOKEN.fullmatch(name):
            self.say(path, f"{name!r} is no header name")
        elif name.lower() in UNTOUCHABLE or name.lower().startswith(("x-a8-", "x-envoy-")):
            self.say(path, f"{name} belongs to the transport or to the mesh")

    def dice(self, members: Mapping[str, Any], path: str) -> tuple[float, tuple[str, ...]]:
        """The probability and the tags of a fault."""
        probability = self.optional(members, path, "probability", self.share) or 0
        return probability, self.optional(members, path, "tags", self.distinct_tags) or ()

    def above_zero(self, item: object, path: str, high: float, unit: str = "") -> float:
        value = self.number(item, path)
        if value is not None and not 0 < value <= high:
            self.say(path, f"must be above 0 and at most {high:g}{unit}")
        return value or 0
