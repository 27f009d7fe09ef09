"""Reads rule documents and finds everything that is wrong with them, with a JSON path for each finding.

The language is that of ``docs/reference/rules.md``. Unknown members are findings, since a typo in
``weight`` must not be ignored; members that the server adds are taken back silently; members of the
language that are known but not built are refused as such. Refuses to guess: nothing is repaired.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from amalgam8.model.action_reader import DELAY_LIMIT, HEADERS_LIMIT, TOKEN, ActionReader
from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidJson, NoRules, TooManyRules
from amalgam8.model.rule import (
    Affinity,
    Backend,
    Block,
    Match,
    Resilience,
    Route,
    Rule,
    Source,
    Uri,
    timestamp,
)

RULES_LIMIT = 5000
ID_LIMIT = 128
"""Bytes."""
BACKENDS_LIMIT = 64
BLOCKS_LIMIT = 16
RETRIES_LIMIT = 25
COUNT_LIMIT = 1_000_000
TTL_LIMIT = 10 * 365 * 86400.0
WEIGHT_UNITS = 10_000
"""Weights are exact to one part in this many (0.01 %)."""

_ID = re.compile(r"[^\s/\x00-\x1f\x7f]+")
_PATH = re.compile(r"/[\x21-\x7e]*")
_MEMBERS = (
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
)


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
    reader = RuleReader(destination)
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


def weight_units(weight: float) -> int:
    """A weight in units of 0.01 %, rounded to the nearest."""
    return round(weight * WEIGHT_UNITS)


class RuleReader(ActionReader):
    """Reads rules: the language from the outside in."""

    def __init__(self, destination: str = "") -> None:
        super().__init__()
        self.default_destination = destination

    def rule(self, item: object, path: str) -> Rule:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object")
            return Rule("")
        members = self.members(item, path, known=_MEMBERS, ignored=("created", "author"))
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
            tags=self.optional(members, path, "tags", self.tags) or (),
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

    # -- match -----------------------------------------------------------------------------------------

    def match(self, item: object, path: str) -> Match:
        members = self.members(item, path, known=("source", "headers", "all", "any", "none"))
        match = Match(
            self.optional(members, path, "source", self.source),
            self.optional(members, path, "headers", self.headers) or {},
            self.optional(members, path, "all", self.blocks) or (),
            self.optional(members, path, "any", self.blocks) or (),
            self.optional(members, path, "none", self.blocks) or (),
        )
        if isinstance(item, dict) and match == Match():
            self.say(path, "holds no condition; leave match out to match every call")
        return match

    def blocks(self, item: object, path: str) -> tuple[Block, ...]:
        if not isinstance(item, list):
            self.wrong_type(path, "a list of objects with source and headers")
            return ()
        if not item:
            self.say(path, "is empty; leave it out")
        self.limit(path, len(item), BLOCKS_LIMIT, "blocks")
        return tuple(self.block(block, f"{path}[{i}]") for i, block in enumerate(item))

    def block(self, item: object, path: str) -> Block:
        members = self.members(item, path, known=("source", "headers"))
        source = self.optional(members, path, "source", self.source)
        headers = self.optional(members, path, "headers", self.headers) or {}
        if isinstance(item, dict) and source is None and not headers:
            self.say(path, "holds no condition")
        return Block(source, headers)

    def source(self, item: object, path: str) -> Source:
        members = self.members(item, path, known=("name", "tags"))
        return Source(
            self.optional(members, path, "name", self.service) or "",
            self.optional(members, path, "tags", self.tags) or (),
        )

    def headers(self, item: object, path: str) -> dict[str, str]:
        if not isinstance(item, dict):
            self.wrong_type(path, "an object of header names and patterns")
            return {}
        self.limit(path, len(item), HEADERS_LIMIT, "headers")
        names: dict[str, str] = {}
        for name in item:
            if not TOKEN.fullmatch(name):
                self.say(f"{path}.{name}", "is no header name")
            elif names.setdefault(name.lower(), name) != name:
                self.say(f"{path}.{name}", f"is the same header as {names[name.lower()]}")
        return {name: self.pattern(pattern, f"{path}.{name}") for name, pattern in item.items()}

    # -- route -----------------------------------------------------------------------------------------

    def route(self, item: object, path: str) -> Route:
        known = ("backends", "uri", "http_req_timeout", "http_req_retries", "affinity")
        members = self.members(item, path, known=known)
        if not isinstance(item, dict):
            return Route()
        return Route(
            self.backends(members.get("backends"), f"{path}.backends"),
            self.optional(members, path, "uri", self.uri),
            self.optional(members, path, "http_req_timeout", self.between(0, DELAY_LIMIT, " seconds")) or 0,
            self.optional(members, path, "http_req_retries", self.whole_between(0, RETRIES_LIMIT)),
            self.optional(members, path, "affinity", self.affinity),
        )

    def backends(self, item: object, path: str) -> tuple[Backend, ...]:
        if item is None or item == []:
            self.say(path, "must list at least one backend")
            return ()
        if not isinstance(item, list):
            self.wrong_type(path, "a list")
            return ()
        self.limit(path, len(item), BACKENDS_LIMIT, "backends")
        backends = tuple(self.backend(b, f"{path}[{i}]") for i, b in enumerate(item))
        units = sum(weight_units(backend.weight) for backend in backends)
        shown = f"weights sum to {units / WEIGHT_UNITS:g}"
        if units > WEIGHT_UNITS:
            self.say(path, f"{shown}, which is above 1")
        elif units < WEIGHT_UNITS and all(backend.weight for backend in backends):
            self.say(path, f"{shown}, below 1; let an unweighted backend take the rest")
        return backends

    def backend(self, item: object, path: str) -> Backend:
        known = ("name", "tags", "weight", "lb_type", "resilience", "timeout", "retries")
        members = self.members(item, path, known=known)
        if not isinstance(item, dict):
            return Backend()
        weight = self.optional(members, path, "weight", self.share) or 0
        if weight and not weight_units(weight):
            self.say(f"{path}.weight", "is below the smallest weight, 0.0001")
        lb_types = self.one_of("round_robin", "least_request", "random")
        return Backend(
            self.optional(members, path, "name", self.service) or "",
            self.needed_tags(members, path),
            weight,
            self.optional(members, path, "lb_type", lb_types) or "",
            self.optional(members, path, "resilience", self.resilience),
            self.optional(members, path, "timeout", self.between(0, DELAY_LIMIT, " seconds")) or 0,
            self.optional(members, path, "retries", self.whole_between(0, RETRIES_LIMIT)),
        )

    def resilience(self, item: object, path: str) -> Resilience | None:
        counts = (
            "max_connections",
            "max_pending_requests",
            "max_requests",
            "max_requests_per_connection",
            "consecutive_errors",
        )
        times = ("sleep_window", "detection_interval")
        members = self.members(item, path, known=(*counts, *times))
        read: dict[str, Any] = {
            **{n: self.optional(members, path, n, self.whole_between(0, COUNT_LIMIT)) or 0 for n in counts},
            **{
                n: self.optional(members, path, n, self.between(0, DELAY_LIMIT, " seconds")) or 0
                for n in times
            },
        }
        found = Resilience(**read)
        return None if found == Resilience() else found

    def uri(self, item: object, path: str) -> Uri | None:
        members = self.members(item, path, known=("path", "prefix", "prefix_rewrite"))
        uri = Uri(
            self.optional(members, path, "path", self.url_path) or "",
            self.optional(members, path, "prefix", self.url_path) or "",
            self.optional(members, path, "prefix_rewrite", self.url_path) or "",
        )
        if uri.path and uri.prefix:
            self.say(path, "gives both path and prefix; a call is matched by one of them")
        elif uri.prefix_rewrite and not uri.path and not uri.prefix:
            self.say(path, "rewrites, but says neither which path nor which prefix")
        return None if uri == Uri() else uri

    def url_path(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text and (not _PATH.fullmatch(text) or "?" in text or "#" in text):
            self.say(path, "must begin with / and hold a path as it stands in a URL, without a query")
        return text

    def affinity(self, item: object, path: str) -> Affinity | None:
        members = self.members(item, path, known=("header", "cookie"))
        header = self.optional(members, path, "header", self.text) or ""
        cookie = self.optional(members, path, "cookie", self.text) or ""
        for name, value in (("header", header), ("cookie", cookie)):
            if value and not TOKEN.fullmatch(value):
                self.say(f"{path}.{name}", f"is no name of a {name}")
        if isinstance(item, dict) and item and bool(header) == bool(cookie):
            self.say(path, "must name either a header or a cookie")
        return Affinity(header.lower(), cookie) if header or cookie else None

    # -- a rule's own values ---------------------------------------------------------------------------

    def rule_id(self, item: object, path: str) -> str:
        text = self.text(item, path)
        if text and (not _ID.fullmatch(text) or len(text.encode()) > ID_LIMIT):
            self.say(
                path, f"must be at most {ID_LIMIT} bytes without white space, slashes and control characters"
            )
        return text

    def priority(self, item: object, path: str) -> int:
        value = self.whole(item, path) or 0
        if abs(value) >= 2**31:
            self.say(path, "must be within ±2147483647")
        return value

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

    def destination(self, item: object, path: str) -> str:
        if item is None:
            self.say(path, "is missing: name the service that the rule is for")
            return ""
        text = self.text(item, path)
        if isinstance(item, str) and (problem := name_problem(text)):
            self.say(path, problem)
        return text
