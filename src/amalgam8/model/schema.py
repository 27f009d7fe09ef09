"""The rule language as a JSON Schema (draft 2020-12), for editors and for programs that write rules.

It never refuses what ``rule_reader`` takes. The reader refuses more: patterns that RE2 cannot read, weights
that make no whole, names that differ in case only. Limits are the reader's own constants. Descriptions are
what an editor shows. A test holds both to one corpus.
"""

from amalgam8.model.action_reader import ACTIONS_LIMIT, DELAY_LIMIT, HEADERS_LIMIT
from amalgam8.model.action_schema import action_schemas
from amalgam8.model.caller import NAME_LIMIT
from amalgam8.model.document import PATTERN_LIMIT, TEXT_LIMIT
from amalgam8.model.rule_reader import (
    BACKENDS_LIMIT,
    BLOCKS_LIMIT,
    COUNT_LIMIT,
    ID_LIMIT,
    RETRIES_LIMIT,
    RULES_LIMIT,
    TTL_LIMIT,
)
from amalgam8.model.schema_words import (
    TOKEN,
    Schema,
    a_list_of,
    an_object,
    given,
    nothing,
    number,
    optional,
    tags,
    text,
    whole,
)

_NAME = r"[^\s/\x00-\x1f\x7f]+"
_PATH = r"/[\x21\x22\x24-\x3e\x40-\x7e]*"
_TIME = r"(?!\d{4}-?\d{2}-?\d{2}$)\d.*([Zz]|[+-]\d{2}(:?\d{2}){0,2}(\.\d+)?)"


def rule_schema() -> Schema:
    """The schema of a file of rules: ``{"rules": […]}``, a bare list, or one rule."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:amalgam8:rules",
        "title": "Amalgam8 rules",
        "description": "Which versions of services calls go to, and what happens to them on the way.",
        "if": {"type": "array"},
        "then": a_list_of("rule", RULES_LIMIT, least=1),
        "else": {
            "if": {"type": "object", "required": ["rules"]},
            "then": {"$ref": "#/$defs/document"},
            "else": {"$ref": "#/$defs/rule"},
        },
        "$defs": {
            "document": an_object(
                {"rules": a_list_of("rule", RULES_LIMIT, least=1), "revision": {}}, required=("rules",)
            ),
            "rule": _rule(),
            "match": _match(),
            "block": _block(),
            "source": _source(),
            "patterns": _patterns(),
            "route": _route(),
            "backend": _backend(),
            "resilience": _resilience(),
            "uri": _uri(),
            "affinity": _affinity(),
            "action": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in action_schemas()]},
            **action_schemas(),
        },
    }


# -- rules and routes ----------------------------------------------------------------------------------


def _rule() -> Schema:
    members = {
        "id": optional(
            text(f"({_NAME})?", ID_LIMIT), "Which rule it is. Without one, the controller gives one."
        ),
        "priority": optional(
            {"type": "integer", "minimum": -(2**31) + 1, "maximum": 2**31 - 1},
            "The higher one is tried first; among equals, the older.",
        ),
        "destination": {
            **text(_NAME, NAME_LIMIT),
            "description": "The service that is called.",
        },
        "tags": optional(tags(distinct=False), "Labels of the rule, to find it by."),
        "match": optional({"$ref": "#/$defs/match"}, "Which calls. Without it: every call."),
        "route": optional({"$ref": "#/$defs/route"}, "Which versions the calls go to."),
        "actions": optional(a_list_of("action", ACTIONS_LIMIT), "What happens to the calls."),
        "expires": optional(
            {**text(f"({_TIME})?", TEXT_LIMIT), "format": "date-time"},
            "When the rule ends by itself, RFC 3339.",
        ),
        "ttl": optional(
            number(0, TTL_LIMIT),
            "After how many seconds it ends by itself; 0: never. Faults end after an hour by default.",
        ),
        "description": optional(text(limit=TEXT_LIMIT), "What the rule is for."),
        "created": {"description": "Set by the controller."},
        "author": {"description": "Set by the controller."},
    }
    routed = {
        "required": ["route"],
        "properties": {"route": {"type": "object"}, "actions": nothing("array")},
    }
    acting = {
        "required": ["actions"],
        "properties": {"actions": {"type": "array", "minItems": 1}, "route": {"type": "null"}},
    }
    both_ends = {
        "required": ["ttl", "expires"],
        "properties": {"ttl": {"type": "number"}, "expires": {"type": "string", "minLength": 1}},
    }
    return {
        **an_object(members, required=("destination",)),
        "anyOf": [routed, acting],
        "not": both_ends,
    }


def _match() -> Schema:
    blocks = {
        "all": "Each of these holds too.",
        "any": "One of these holds too.",
        "none": "None of these holds.",
    }
    members = {
        "source": optional({"$ref": "#/$defs/source"}, "Who calls."),
        "headers": optional({"$ref": "#/$defs/patterns"}, "Headers and RE2 patterns that are found in them."),
        **{
            name: optional(a_list_of("block", BLOCKS_LIMIT, least=1), words) for name, words in blocks.items()
        },
    }
    return {**an_object(members), "anyOf": [*_some_condition(), *(given(name, "array") for name in blocks)]}


def _block() -> Schema:
    members = {
        "source": optional({"$ref": "#/$defs/source"}, "Who calls."),
        "headers": optional({"$ref": "#/$defs/patterns"}, "Headers and RE2 patterns that are found in them."),
    }
    return {**an_object(members), "anyOf": _some_condition()}


def _some_condition() -> list[Schema]:
    return [
        given("source", "object"),
        {"required": ["headers"], "properties": {"headers": {"type": "object", "minProperties": 1}}},
    ]


def _source() -> Schema:
    return an_object(
        {
            "name": optional(text(f"({_NAME})?", NAME_LIMIT), "The calling service. Without it: any."),
            "tags": optional(tags(distinct=False), "Tags that the caller carries, all of them."),
        }
    )


def _patterns() -> Schema:
    return {
        "type": "object",
        "maxProperties": HEADERS_LIMIT,
        "propertyNames": {"pattern": f"^{TOKEN}$"},
        "additionalProperties": {**text(limit=PATTERN_LIMIT), "description": "A pattern in RE2's syntax."},
    }


def _route() -> Schema:
    members = {
        "backends": a_list_of("backend", BACKENDS_LIMIT, least=1),
        "uri": optional(
            {"$ref": "#/$defs/uri"}, "Paths that lead here in place of the service's own address."
        ),
        "http_req_timeout": optional(
            number(0, DELAY_LIMIT), "Seconds for the whole exchange; 0: the default."
        ),
        "http_req_retries": optional(
            whole(0, RETRIES_LIMIT), "Retries of idempotent calls on 5xx; 0: no retry at all."
        ),
        "affinity": optional({"$ref": "#/$defs/affinity"}, "Keeps a user on one version."),
    }
    return an_object(members, required=("backends",))


def _backend() -> Schema:
    members = {
        "name": optional(
            text(f"({_NAME})?", NAME_LIMIT),
            "A service that lends its instances. By default the destination.",
        ),
        "tags": {**tags(least=1), "description": "Instances that carry all of these."},
        "weight": optional(number(0, 1), "Share of the calls; 0: an equal part of what the others leave."),
        "lb_type": optional(
            {"enum": ["round_robin", "least_request", "random", ""]},
            "How calls are spread over the instances.",
        ),
        "resilience": optional({"$ref": "#/$defs/resilience"}, "Limits, and when an instance is left out."),
        "timeout": optional(number(0, DELAY_LIMIT), "Older spelling of http_req_timeout."),
        "retries": optional(whole(0, RETRIES_LIMIT), "Older spelling of http_req_retries."),
    }
    return an_object(members, required=("tags",))


def _resilience() -> Schema:
    counts = {
        "max_connections": "Connections to the backend.",
        "max_pending_requests": "Calls that wait for a connection.",
        "max_requests": "Calls at once.",
        "max_requests_per_connection": "Calls before a connection is closed.",
        "consecutive_errors": "5xx answers in a row after which an instance is left out.",
    }
    times = {
        "sleep_window": "Seconds for which it is left out.",
        "detection_interval": "Seconds between looks.",
    }
    return an_object(
        {
            **{name: optional(whole(0, COUNT_LIMIT), words) for name, words in counts.items()},
            **{name: optional(number(0, DELAY_LIMIT), words) for name, words in times.items()},
        }
    )


def _uri() -> Schema:
    path = text(f"({_PATH})?", TEXT_LIMIT)
    some = {"type": "string", "minLength": 1}
    return {
        **an_object(
            {
                "path": optional(path, "Exactly this path."),
                "prefix": optional(path, "All paths that begin so."),
                "prefix_rewrite": optional(path, "What the instance sees in place of what matched."),
            }
        ),
        "not": {"required": ["path", "prefix"], "properties": {"path": some, "prefix": some}},
        "if": {"required": ["prefix_rewrite"], "properties": {"prefix_rewrite": some}},
        "then": {"anyOf": [{"required": [name], "properties": {name: some}} for name in ("path", "prefix")]},
    }


def _affinity() -> Schema:
    name = text(f"({TOKEN})?", TEXT_LIMIT)
    some = {"type": "string", "minLength": 1}
    one = [
        {"required": [mine], "properties": {mine: some, other: nothing("string")}}
        for mine, other in (("header", "cookie"), ("cookie", "header"))
    ]
    return {
        **an_object(
            {"header": optional(name, "By this header."), "cookie": optional(name, "By this cookie.")}
        ),
        "anyOf": [{"maxProperties": 0}, *one],
    }
