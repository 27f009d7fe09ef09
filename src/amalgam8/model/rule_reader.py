"""Reads rule documents and finds everything that is wrong with them, with a JSON path for each finding.

The language is that of ``docs/reference/rules.md``. Unknown members are findings, since a typo in
``weight`` must not be ignored; members that the server adds are taken back silently; members of the
language that are known but not built are refused as such. Refuses to guess: nothing is repaired.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
import re2

from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidJson, InvalidRule, NoRules, Problem, TooManyRules
from amalgam8.model.rule import Abort, Action, Backend, Delay, Match, Route, Rule, Source, timestamp

RULES_LIMIT = 5000
BACKENDS_LIMIT = 64
ACTIONS_LIMIT = 32
HEADERS_LIMIT = 32
TAGS_LIMIT = 64
TEXT_LIMIT = 1024
PATTERN_LIMIT = 1024
DELAY_LIMIT = 3600.0
TTL_LIMIT = 10 * 365 * 86400.0
WEIGHT_UNITS = 10_000
"""Weights are exact to one part in this many (0.01 %)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ID = re.compile(r"[^\s/\x00-\x1f\x7f]+")

_LATER = "is not supported yet"
_EMPTY: tuple[object, ...] = (None, "", 0, 0.0, [], {})

T = TypeVar("T")


def read_rules(body: bytes) -> list[Rule]:
    """Read ``{"rules":[…]}``.

    Rules come back in the order of the list, ``id`` empty where none was given.

    Raises:
        InvalidJson: no JSON object, or a member of the wrong JSON type.
        NoRules: no ``rules`` or an empty list.
        TooManyRules: more than RULES_LIMIT.
        InvalidRule: all problems of all rules at once.
    """
    return read_list(read_document(body))


def read_document(body: bytes) -> dict[str, Any]:
    """Decode the JSON object of a body; raises InvalidJson."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidJson('$: expected an object such as {"rules": [...]}')
    return document


def read_list(
    document: Mapping[str, Any], *, may_be_empty: bool = False, destination: str = ""
) -> list[Rule]:
    """Read a decoded ``{"rules": […]}``; raises as read_rules.

    Rules that name no destination are for ``destination``, where it is given.
    """
    reader = _Reader(destination)
    for member in document:
        if member not in ("rules", "revision"):  # a listing may be sent back as it was read
            reader.unknown("$", member, ("rules",))
    listed = document.get("rules")
    if listed is not None and not isinstance(listed, list):
        raise InvalidJson("$.rules: expected a list")
    if not listed and not may_be_empty:
        raise NoRules('no rules were given: write {"rules": [...]} with at least one rule')
    if listed and len(listed) > RULES_LIMIT:
        raise TooManyRules(f"{len(listed)} rules in one request; at most {RULES_LIMIT} are allowed")
    rules = [reader.rule(item, f"$.rules[{i}]") for i, item in enumerate(listed or ())]
    seen: dict[str, int] = {}
    for i, rule in enumerate(rules):
        if rule.id and seen.setdefault(rule.id, i) != i:
            reader.say(f"$.rules[{i}].id", f"the same id as $.rules[{seen[rule.id]}]")
    reader.finish()
    return rules


class _Reader:
    """Walks one document; collects findings instead of stopping at the first."""

    def __init__(self, destination: str) -> None:
        self.default_destination = destination
        self.problems: list[Problem] = []
        self.types_wrong = False

    def finish(self) -> None:
        if not self.problems:
            return
        if self.types_wrong:
            error = InvalidRule(self.problems)
            raise InvalidJson(str(error))
        raise InvalidRule(self.problems)

    def say(self, path: str, reason: str) -> None:
        self.problems.append(Problem(path, reason))

    def wrong_type(self, path: str, expected: str) -> None:
        self.types_wrong = True
        self.say(path, f"expected {expected}")

    def unknown(self, path: str, member: str, known: tuple[str, ...]) -> None:
        near = get_close_matches(member, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; allowed are {', '.join(known)}"
        self.say(f"{path}.{member}", f"unknown member{hint}")

    # -- the language, from the outside in ------------------------------------------------------------

    def rule(self, item: object, path: str) -> Rule:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return Rule("")
        members = self.members(
            item,
            path,
            known=(
                "id",
                "priority",
                "tags",
                "destination",
                "match",
                "route",
                "actions",
                "expires",
                "ttl",
                "description",
            ),
            ignored=("created", "author"),
        )
        given = members.get("destination")
        route = self.optional(members, path, "route", self.route)
        actions = self.optional(members, path, "actions", self.actions) or ()
        if isinstance(members.get("actions"), list) and route is not None and actions:
            self.say(path, "has both route and actions; a rule holds one of them")
        elif not members.get("route") and not members.get("actions"):
            self.say(path, "has neither route nor actions")
        rule = Rule(
            id=self.optional(members, path, "id", self.rule_id) or "",
            priority=self.optional(members, path, "priority", self.priority) or 0,
            destination=self.destination(
                self.default_destination or given if given in (None, "") else given, f"{path}.destination"
            ),
            tags=self.optional(members, path, "tags", self.tag_list) or (),
            match=self.optional(members, path, "match", self.match),
            route=route,
            actions=actions,
            expires=self.optional(members, path, "expires", self.expires) or "",
            ttl=self.optional(members, path, "ttl", self.ttl),
            description=self.optional(members, path, "description", self.text) or "",
        )
        if rule.expires and rule.ttl is not None:
            self.say(f"{path}.ttl", "stands beside expires; give one of them")
        return rule

    def match(self, item: object, path: str) -> Match | None:
        members = self.members(item, path, known=("source", "headers"), later=("all", "any", "none"))
        source = self.optional(members, path, "source", self.source)
        headers = self.optional(members, path, "headers", self.headers) or {}
        if isinstance(item, dict) and source is None and not headers:
            self.say(path, "holds no condition; leave match out to match every call")
        return Match(source, headers)

    def source(self, item: object, path: str) -> Source:
        members = self.members(item, path, known=("name", "tags"))
        return Source(
            self.optional(members, path, "name", self.source_name) or "",
            self.optional(members, path, "tags", self.tag_list) or (),
        )

    def headers(self, item: object, path: str) -> dict[str, str]:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of header names and patterns")
            return {}
        self.limit(path, len(item), HEADERS_LIMIT, "headers")
        names: dict[str, str] = {}
        for name, pattern in item.items():
            where = f"{path}.{name}"
            if not _TOKEN.fullmatch(name):
                self.say(where, "is no header name")
            elif names.setdefault(name.lower(), name) != name:
                self.say(where, f"is the same header as {names[name.lower()]}")
            if not isinstance(pattern, str):
                self.wrong_type(where, "a pattern (text)")
            else:
                self.pattern(pattern, where)
        return dict(item)

    def pattern(self, pattern: str, path: str) -> None:
        if len(pattern.encode()) > PATTERN_LIMIT:
            self.say(path, f"a pattern longer than {PATTERN_LIMIT} bytes")
            return
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            text = error.args[0] if error.args else "unreadable"
            text = text.decode(errors="replace") if isinstance(text, bytes) else text
            self.say(path, f"no RE2 pattern: {text}")

    def route(self, item: object, path: str) -> Route:
        members = self.members(
            item,
            path,
            known=("backends",),
            later=("uri", "http_req_timeout", "http_req_retries", "affinity"),
        )
        listed = members.get("backends")
        if listed is None or listed == []:
            if isinstance(item, dict):
                self.say(f"{path}.backends", "must list at least one backend")
            return Route()
        if not isinstance(listed, list):
            self.wrong_type(f"{path}.backends", "a list")
            return Route()
        self.limit(f"{path}.backends", len(listed), BACKENDS_LIMIT, "backends")
        backends = tuple(self.backend(b, f"{path}.backends[{i}]") for i, b in enumerate(listed))
        units = sum(weight_units(backend.weight) for backend in backends)
        if units > WEIGHT_UNITS:
            self.say(f"{path}.backends", f"weights sum to {units / WEIGHT_UNITS:g}, which is above 1")
        elif units < WEIGHT_UNITS and all(backend.weight for backend in backends):
            self.say(
                f"{path}.backends",
                f"weights sum to {units / WEIGHT_UNITS:g}, below 1; let an unweighted backend take the rest",
            )
        return Route(backends)

    def backend(self, item: object, path: str) -> Backend:
        members = self.members(
            item,
            path,
            known=("name", "tags", "weight"),
            later=("lb_type", "resilience", "timeout", "retries"),
        )
        tags = self.optional(members, path, "tags", self.distinct_tags) or ()
        if (
            isinstance(item, dict)
            and not tags
            and not isinstance(members.get("tags"), (str, dict, int, float))
        ):
            self.say(f"{path}.tags", "must name at least one tag")
        name = self.optional(members, path, "name", self.source_name) or ""
        weight = self.optional(members, path, "weight", self.share) or 0
        if weight and not weight_units(weight):
            self.say(f"{path}.weight", "is below the smallest weight, 0.0001")
        return Backend(name, tags, weight)

    def actions(self, item: object, path: str) -> tuple[Action, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list")
            return ()
        self.limit(path, len(item), ACTIONS_LIMIT, "actions")
        read = (self.action(action, f"{path}[{i}]") for i, action in enumerate(item))
        return tuple(action for action in read if action is not None)

    def action(self, item: object, path: str) -> Action | None:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return None
        kind = item.get("action")
        if kind == "delay":
            members = self.members(item, path, known=("action", "duration", "probability", "tags"))
            return Delay(
                self.duration(members.get("duration"), f"{path}.duration"), *self.dice(members, path)
            )
        if kind == "abort":
            members = self.members(item, path, known=("action", "return_code", "probability", "tags"))
            return Abort(
                self.return_code(members.get("return_code"), f"{path}.return_code"), *self.dice(members, path)
            )
        if kind in ("trace", "allow", "deny", "rate_limit", "mirror", "headers"):
            self.say(f"{path}.action", f"{kind} {_LATER}")
        elif kind is not None and not isinstance(kind, str):
            self.wrong_type(f"{path}.action", "text")
        else:
            self.say(f"{path}.action", "must be delay or abort")
        return None

    def dice(self, members: Mapping[str, Any], path: str) -> tuple[float, tuple[str, ...]]:
        probability = self.optional(members, path, "probability", self.share) or 0
        return probability, self.optional(members, path, "tags", self.distinct_tags) or ()

    # -- values ----------------------------------------------------------------------------------------

    def members(
        self,
        item: object,
        path: str,
        *,
        known: tuple[str, ...],
        later: tuple[str, ...] = (),
        ignored: tuple[str, ...] = (),
    ) -> Mapping[str, Any]:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return {}
        for member, value in item.items():
            if member in later:
                # Empty values of these were always the same as none at all.
                if isinstance(value, bool) or value not in _EMPTY:
                    self.say(f"{path}.{member}", _LATER)
            elif member not in known and member not in ignored:
                self.unknown(path, member, known)
        return item

    def optional(
        self, members: Mapping[str, Any], path: str, name: str, read: Callable[[object, str], T]
    ) -> T | None:
        value = members.get(name)
        return None if value is None else read(value, f"{path}.{name}")

    def text(self, item: object, path: str) -> str:
        if not isinstance(item, str):
            self.wrong_type(path, "text")
            return ""
        if len(item.encode()) > TEXT_LIMIT:
            self.say(path, f"is longer than {TEXT_LIMIT} bytes")
        return item

    def rule_id(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text and (not _ID.fullmatch(text) or len(text.encode()) > 128):
            self.say(path, "must be at most 128 bytes without white space, slashes and control characters")
        return text

    def priority(self, item: object, path: str) -> int:
        if isinstance(item, bool) or not isinstance(item, int):
            self.wrong_type(path, "a whole number")
            return 0
        if abs(item) >= 2**31:
            self.say(path, "must be within ±2147483647")
        return item

    def number(self, item: object, path: str) -> float | None:
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            self.wrong_type(path, "a number")
            return None
        return float(item) if abs(item) < 1e18 else 1e18

    def share(self, item: object, path: str) -> float:
        value = self.number(item, path)
        if value is not None and not 0 <= value <= 1:
            self.say(path, "must be between 0 and 1 (0 = not set)")
        return value or 0

    def duration(self, item: object, path: str) -> float:
        if item is None:
            self.say(path, "is missing: give the delay in seconds")
            return 0.0
        value = self.number(item, path)
        if value is not None and not 0 < value <= DELAY_LIMIT:
            self.say(path, f"must be above 0 and at most {DELAY_LIMIT:g} seconds")
        return value or 0.0

    def return_code(self, item: object, path: str) -> int:
        if item is None:
            self.say(path, "is missing: give a status from 200 to 599")
            return 0
        if isinstance(item, bool) or not isinstance(item, int):
            self.wrong_type(path, "a whole number")
            return 0
        if item == -1:
            self.say(path, f"-1 {_LATER}; give a status from 200 to 599")
        elif not 200 <= item <= 599:
            self.say(path, "must be a status from 200 to 599")
        return item

    def expires(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text:
            try:
                timestamp(text)
            except (ValueError, OverflowError):
                self.say(path, "must be an RFC 3339 time with a zone, such as 2030-01-31T12:00:00Z")
        return text

    def ttl(self, item: object, path: str) -> float | None:
        value = self.number(item, path)
        if value is not None and not 0 <= value <= TTL_LIMIT:
            self.say(path, f"must be between 0 (for ever) and {TTL_LIMIT:g} seconds")
        return value

    def tag_list(self, item: object, path: str) -> tuple[str, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list of texts")
            return ()
        self.limit(path, len(item), TAGS_LIMIT, "tags")
        for i, tag in enumerate(item):
            if not isinstance(tag, str):
                self.wrong_type(f"{path}[{i}]", "text")
            elif not tag or len(tag.encode()) > TEXT_LIMIT:
                self.say(f"{path}[{i}]", f"a tag holds 1 to {TEXT_LIMIT} bytes")
        return tuple(tag for tag in item if isinstance(tag, str))

    def distinct_tags(self, item: object, path: str) -> tuple[str, ...]:
        tags = self.tag_list(item, path)
        if len(set(tags)) != len(tags):
            self.say(path, "names a tag twice")
        return tags

    def source_name(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text and (problem := name_problem(text)):
            self.say(path, problem)
        return text

    def destination(self, item: object, path: str) -> str:
        if item is None:
            self.say(path, "is missing: name the service that the rule is for")
            return ""
        text = self.text(item, path)
        if isinstance(item, str) and (problem := name_problem(text)):
            self.say(path, problem)
        return text

    def limit(self, path: str, count: int, allowed: int, what: str) -> None:
        if count > allowed:
            self.say(path, f"{count} {what}; at most {allowed} are allowed")


def weight_units(weight: float) -> int:
    """A weight in units of 0.01 %, rounded to the nearest."""
    return round(weight * WEIGHT_UNITS)
