"""The controller's API as an OpenAPI document, served at ``/openapi.json``.

Written by hand beside the code, and held to it: a test compares it with the table of routes, another lets
schemathesis try a served controller. What a rule may say is the schema of ``model.schema``. Refuses to
describe what a stream tells: ``docs/reference/streams.md``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from amalgam8.controller.explain_api import WITH_LIMIT
from amalgam8.controller.history_api import PAGE_LIMIT
from amalgam8.controller.openapi_schemas import ANY, NAME, NUMBER, REVISION, SCHEMAS
from amalgam8.web.openapi import (
    EMPTY,
    Json,
    an_object,
    for_tenants,
    header,
    in_json,
    in_path,
    list_of,
    operation,
    plain,
    query,
    ref,
    text,
    whole,
)

_REFUSALS = {
    400: "A parameter, a header or the body is missing or wrong.",
    401: "No good token.",
    403: "Not for this sidecar.",
    404: "There is none of that name.",
    408: "The request did not arrive in time.",
    409: "It contradicts what is there.",
    412: "The rules are at another revision.",
    413: "The body, or a list in it, is larger than its limit.",
    415: "The body is not said to be application/json in UTF-8.",
    503: "The store cannot be used just now, or there is no room for more.",
}

_FILTERS = [
    query("id", list_of(text()), "One of these ids."),
    query("tag", list_of(text()), "All of these tags."),
    query("destination", list_of(text()), "One of these destinations."),
]
_TERMS = [
    query("wait", text(), "Answer once it is applied everywhere, or after this time, such as 5s."),
    query("confirm_within", text(), "Undo it after this time, unless it is confirmed."),
    header("If-Match", "Only at this revision, or one of several."),
    header("A8-Author", "For the history.", maxLength=128),
    header("A8-Comment", "For the history.", maxLength=1024),
]


def document(version: str) -> bytes:
    """The document as JSON."""
    return whole("Amalgam8 controller", version, PATHS, SCHEMAS)


def _operation(summary: str, answers: Mapping[int, Json], *refused: int, **more: Any) -> Json:
    return operation(summary, answers, _REFUSALS, *refused, **more)


def _tenants(summary: str, answers: Mapping[int, Json], *refused: int, **more: Any) -> Json:
    return for_tenants(_operation(summary, answers, *refused, 400, 401, 404, 503, **more))


def _write(
    summary: str, answers: Mapping[int, Json], *refused: int, parameters: Sequence[Json] = (), **more: Any
) -> Json:
    """An operation that writes rules, on whatever terms."""
    return _tenants(summary, answers, *refused, 409, 412, parameters=[*parameters, *_TERMS], **more)


_MAY_SAY: Json = {"description": "Done; with a body where it was waited for, or may be undone."}


def _of_kind(words: str) -> dict[str, Json]:
    """The paths of one kind of rules."""
    one = [in_path("destination")]
    return {
        f"/v1/rules/{words}": {
            "get": _tenants(
                f"Rules that are {words}, by destination.",
                {200: in_json(ref("ByService"))},
                parameters=_FILTERS,
            )
        },
        f"/v1/rules/{words}/{{destination}}": {
            "get": _tenants(
                f"The {words} of a destination.", {200: in_json(an_object(("rules",)))}, parameters=one
            ),
            "put": _write(
                f"Replace all {words} of a destination.",
                {201: in_json(ref("Written"))},
                parameters=one,
                body=ANY,
            ),
            "delete": _write(f"Remove all {words} of a destination.", {200: _MAY_SAY}, parameters=one),
        },
    }


PATHS: dict[str, Json] = {
    "/health": {"get": _operation("That it is there.", {200: EMPTY})},
    "/metrics": {
        "get": _operation("Figures for Prometheus.", {200: plain("Text, version 0.0.4.", "text/plain")}, 401)
    },
    "/openapi.json": {"get": _operation("This document.", {200: in_json(ANY)})},
    "/v1/schema/rules.json": {
        "get": _operation(
            "The rule language as a JSON Schema.",
            {200: {"description": "Done.", "content": {"application/schema+json": {"schema": ANY}}}},
        )
    },
    "/v1/rules": {
        "get": _tenants(
            "Rules, in the order in which they are tried.",
            {200: in_json(ref("Rules"))},
            parameters=_FILTERS,
        ),
        "post": _write(
            "Create rules, all or none.", {201: in_json(ref("Written"))}, body=ref("rule-document")
        ),
        "put": _write("Replace whole rules by their ids.", {200: _MAY_SAY}, body=ref("rule-document")),
        "delete": _write("Remove rules; without a filter, all.", {200: _MAY_SAY}, parameters=_FILTERS),
    },
    "/v1/rules/{id}/status": {
        "get": _tenants("Where a rule is applied.", {200: in_json(ref("Status"))}, parameters=[in_path("id")])
    },
    **_of_kind("routes"),
    **_of_kind("actions"),
    "/v1/history": {
        "get": _tenants(
            "Revisions, the newest first.",
            {
                200: in_json(
                    an_object(
                        ("revision", "revisions", "next"),
                        revision=REVISION,
                        revisions=list_of(ref("Revision")),
                        next={"type": ["integer", "null"]},
                    )
                )
            },
            parameters=[
                query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_LIMIT}, "How many."),
                query("before", {"type": "integer", "minimum": 0}, "Only older ones."),
            ],
        )
    },
    "/v1/history/{revision}": {
        "get": _tenants(
            "One revision with its difference.",
            {200: in_json(ref("Revision"))},
            parameters=[in_path("revision")],
        )
    },
    "/v1/rollback": {
        "post": _write(
            "Make the rules what they were.",
            {200: in_json(ref("Done"))},
            body=an_object(("revision",), revision=REVISION),
        )
    },
    "/v1/confirm": {
        "post": _write(
            "Let a change stay.",
            {200: in_json(ref("Done"))},
            body=an_object(("revision",), revision=REVISION),
        )
    },
    "/v1/apply": {
        "put": _write(
            "Make the rules what the body says, as one revision.",
            {200: in_json(an_object(("revision", "difference"), revision=REVISION, difference=list_of(ANY)))},
            parameters=[
                query("tag", list_of(text()), "Only those that carry these tags."),
                query("prune", {"type": "boolean"}, "Whether to remove what the body lacks."),
                query("dry_run", {"type": "boolean"}, "Only say what would change."),
            ],
            body=ANY,
        )
    },
    "/v1/export": {"get": _tenants("All rules with their history.", {200: in_json(ANY)})},
    "/v1/import": {
        "put": _tenants(
            "Take an export where nothing is.",
            {200: in_json(an_object(("revision", "rules"), revision=REVISION, rules={"type": "integer"}))},
            409,
            body=ANY,
        )
    },
    "/v1/explain": {
        "post": _tenants(
            "Say what may happen to a call, and why.",
            {200: in_json(an_object(("revision", "versions", "rules")))},
            409,
            body={
                **an_object(
                    (),
                    source=ANY,
                    destination={"type": ["string", "null"]},
                    method={"type": ["string", "null"]},
                    path={"type": ["string", "null"]},
                    headers={"type": ["object", "null"]},
                ),
                "additionalProperties": {"type": ["array", "null"], "maxItems": WITH_LIMIT},
            },
        )
    },
    "/v1/plan/watch": {
        "get": _tenants(
            "Follow a sidecar's Plan.",
            {200: plain("Server-sent events.", "text/event-stream")},
            parameters=[
                query("id", text(format="uuid"), "The sidecar.", required=True),
                query("service", text(), "The caller."),
                query("tags", text(), "Its tags, with commas between."),
                query("protocol", {"type": "integer", "minimum": 0}, "Which the client speaks."),
                header("Last-Event-ID", "Resume here."),
            ],
        )
    },
    "/v1/sidecars": {
        "get": _tenants(
            "The sidecars that are known.",
            {200: in_json(an_object(("sidecars",), sidecars=list_of(ref("Sidecar"))))},
        )
    },
    "/v1/sidecars/{id}": {
        "put": _tenants(
            "A sidecar's report.",
            {200: _MAY_SAY},
            403,
            parameters=[in_path("id")],
            body=an_object(("key", "service"), key=text(), service=text()),
        )
    },
    "/v1/sidecars/{id}/limits": {
        "put": _tenants(
            "What a sidecar wants of budgets of the fleet.",
            {200: in_json(an_object(("slices", "every"), every=NUMBER))},
            403,
            parameters=[in_path("id")],
            body=an_object(("key",), key=text()),
        )
    },
    "/v1/traffic": {
        "get": _tenants(
            "What is called just now.",
            {200: in_json(an_object(("sidecars", "traffic"), traffic=list_of(ANY)))},
            parameters=[query("destination", list_of(text()), "Only these.")],
        )
    },
    "/v1/rollouts": {
        "get": _tenants(
            "Rollouts, the newest first.",
            {200: in_json(an_object(("rollouts",), rollouts=list_of(ref("Rollout"))))},
        ),
        "post": _tenants(
            "Start a rollout.",
            {201: in_json(ref("Rollout"))},
            409,
            parameters=_TERMS[-2:],
            body=an_object(
                ("service", "version"),
                service=NAME,
                version=list_of(text(minLength=1), minItems=1),
                steps=list_of({"type": "number", "minimum": 0.01, "maximum": 100}, minItems=1),
                interval={"type": "number", "minimum": 1, "maximum": 86400},
                max_errors={"type": "number", "minimum": 0, "maximum": 1},
                max_p99={"type": ["number", "null"]},
                min_requests={"type": "integer", "minimum": 1},
            ),
        ),
    },
    "/v1/rollouts/{id}": {
        "get": _tenants("One rollout.", {200: in_json(ref("Rollout"))}, parameters=[in_path("id")])
    },
    **{
        f"/v1/rollouts/{{id}}/{word}": {
            "post": _tenants(summary, {200: in_json(ref("Rollout"))}, 409, parameters=[in_path("id")])
        }
        for word, summary in (
            ("pause", "Stay at the present share."),
            ("resume", "Go on."),
            ("abort", "Give the old version all calls again."),
        )
    },
}
"""Path → method → operation."""
