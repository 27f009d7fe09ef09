"""The actions of a rule as JSON Schemas, one for each; adding an action ends here.

Beside ``action_reader``, whose limits these are.
"""

from collections.abc import Mapping

from amalgam8.model.action_reader import (
    DELAY_LIMIT,
    HEADERS_LIMIT,
    PERIOD_LIMIT,
    RATE_LIMIT,
    RECORD_MEMBERS,
    UNTOUCHABLE,
)
from amalgam8.model.document import TEXT_LIMIT
from amalgam8.model.schema_words import TOKEN, Schema, above, an_object, folded, number, optional, tags, text

VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*"


def action_schemas() -> dict[str, Schema]:
    dice = {
        "probability": optional(number(0, 1), "How likely; 0 or absent: always."),
        "tags": optional(tags(), "Only where the chosen instance carries all of these."),
    }
    return {
        "delay": _action(
            "delay",
            "Holds the call.",
            {"duration": {**above(0, DELAY_LIMIT), "description": "Seconds."}, **dice},
            "duration",
        ),
        "abort": _action(
            "abort",
            "Answers in place of the destination.",
            {
                "return_code": {
                    "type": "integer",
                    "anyOf": [{"const": -1}, {"minimum": 200, "maximum": 599}],
                    "description": "A status, or -1: no complete answer.",
                },
                **dice,
            },
            "return_code",
        ),
        "trace": _action(
            "trace",
            "Writes a member into the access record.",
            {
                "log_key": optional(
                    {
                        **text(r"([A-Za-z_][A-Za-z0-9_.-]{0,63})?"),
                        "not": {"enum": sorted(RECORD_MEMBERS)},
                    },
                    "The member's name.",
                ),
                "log_value": optional(text(limit=TEXT_LIMIT), "Its value."),
                "tags": dice["tags"],
            },
        ),
        "allow": _action("allow", "Lets these calls pass, and refuses all that no allow rule matches.", {}),
        "deny": _action("deny", "Refuses these calls.", {}),
        "rate_limit": _action(
            "rate_limit",
            "Refuses calls above a rate with 429.",
            {
                "requests": {**above(0, RATE_LIMIT), "description": "Calls in each period."},
                "per": optional(number(0, PERIOD_LIMIT), "Seconds of the period; 1 by default."),
                "burst": optional(number(0, RATE_LIMIT), "Calls more that may come at once."),
                "key": optional(
                    text(f"(all|caller|header:{TOKEN})?", TEXT_LIMIT), "all, caller, or header:NAME."
                ),
                "scope": optional({"enum": ["sidecar", "fleet", ""]}, "Who shares the budget."),
            },
            "requests",
        ),
        "mirror": _action(
            "mirror",
            "Copies calls to other instances, and forgets the answers.",
            {
                "tags": {**tags(least=1), "description": "Instances that carry all of these."},
                "percent": optional(number(0, 100), "How many of the calls; 100 by default."),
            },
            "tags",
        ),
        "headers": _action("headers", "Changes headers of the call.", _header_members())
        | {
            "anyOf": [
                {"required": ["set"], "properties": {"set": {"type": "object", "minProperties": 1}}},
                {"required": ["remove"], "properties": {"remove": {"type": "array", "minItems": 1}}},
            ]
        },
    }


def _header_members() -> dict[str, Schema]:
    words = "|".join(folded(word) for word in sorted(UNTOUCHABLE))
    name = f"^(?!({words})$)(?!{folded('x-a8-')})(?!{folded('x-envoy-')}){TOKEN}$"
    return {
        "set": optional(
            {
                "type": "object",
                "maxProperties": HEADERS_LIMIT,
                "propertyNames": {"pattern": name},
                "additionalProperties": text(VALUE, TEXT_LIMIT),
            },
            "Names and values; nothing of the call's own value is left.",
        ),
        "remove": optional(
            {"type": "array", "maxItems": HEADERS_LIMIT, "items": {"type": "string", "pattern": name}},
            "Names.",
        ),
    }


def _action(kind: str, words: str, members: Mapping[str, Schema], *required: str) -> Schema:
    return {
        **an_object({"action": {"const": kind}, **members}, required=("action", *required)),
        "description": words,
    }
