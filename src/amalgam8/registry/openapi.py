"""The registry's API as an OpenAPI document, served at ``/openapi.json``.

Written by hand beside the code, and held to it: a test compares it with the table of routes, another lets
schemathesis try a served registry. Routes of Eureka's API are listed from that table, without bodies, which
are Eureka's own. Refuses to describe what a stream tells: ``docs/reference/streams.md``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route

from amalgam8.model.instance import ENDPOINT_TYPES, STATUSES
from amalgam8.registry.heartbeats import IDS_LIMIT
from amalgam8.registry.query import FIELDS
from amalgam8.web.openapi import (
    EMPTY,
    NO_CONTROL,
    NO_SLASH,
    Json,
    an_object,
    for_tenants,
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
from amalgam8.web.plain import PlainRoute

# What a client may send is told in characters; the limits are in bytes, so that these are a little strict.
_SERVICE = text(minLength=1, maxLength=64, pattern=NO_SLASH)

SCHEMAS: Json = {
    "Error": an_object(
        ("Error", "code", "request_id"),
        Error=text(description="For people."),
        code=text(description="For programs; does not change."),
        request_id=text(),
    ),
    "Endpoint": an_object(
        ("type", "value"),
        type=text(enum=list(ENDPOINT_TYPES)),
        value=text(minLength=1, maxLength=128, pattern=NO_CONTROL),
    ),
    "Registration": an_object(
        ("service_name", "endpoint"),
        service_name=_SERVICE,
        endpoint=ref("Endpoint"),
        ttl={"type": ["integer", "null"], "minimum": 0, "description": "Seconds; 0: the default."},
        status={"type": ["string", "null"], "description": f"One of {', '.join(STATUSES)}, in any case."},
        tags={"type": ["array", "null"], "items": text(maxLength=1024, pattern=NO_CONTROL), "maxItems": 64},
        metadata={"description": "Any JSON of at most 1024 bytes."},
    ),
    "Granted": an_object(
        ("id", "ttl", "links"),
        id=text(),
        ttl={"type": "integer", "minimum": 1},
        links=an_object(("self", "heartbeat"), self=text(), heartbeat=text()),
    ),
    "Instance": an_object(
        ("id", "endpoint"),
        id=text(),
        service_name=text(),
        endpoint=an_object(("value",), type=text(), value=text()),
        ttl={"type": "integer"},
        status=text(),
        metadata={},
        last_heartbeat=text(description="RFC 3339."),
        tags=list_of(text()),
    ),
    "Event": an_object(
        ("time", "event", "reason"),
        time=text(),
        event=text(enum=["registered", "changed", "removed", "expired", "frozen", "thawed"]),
        reason=text(),
        service_name=text(),
        id=text(),
        status=text(),
    ),
}


def document(routes: Iterable[BaseRoute], version: str) -> bytes:
    """The document as JSON; ``routes`` are those of Eureka's API."""
    paths = {path: dict(methods) for path, methods in PATHS.items()}
    for route in routes:
        if isinstance(route, (Route, PlainRoute)) and route.path not in PATHS:
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _eureka(route.path)
    return whole("Amalgam8 registry", version, paths, SCHEMAS)


_REFUSALS = {
    400: "A parameter, the body, or an admin's A8-Namespace is missing or wrong.",
    401: "No good token.",
    403: "The tenant has no room for more instances.",
    404: "There is none of that name.",
    408: "The request did not arrive in time.",
    410: "The lease is not known (any more): register again.",
    413: "The body, or a list in it, is larger than its limit.",
    415: "The body is not said to be application/json in UTF-8.",
    503: "The store cannot be used just now, or there is no room for more.",
}


def _operation(summary: str, answers: Mapping[int, Json], *refused: int, **more: Any) -> Json:
    return operation(summary, answers, _REFUSALS, *refused, **more)


def _tenants(summary: str, answers: Mapping[int, Json], *refused: int, **more: Any) -> Json:
    return for_tenants(_operation(summary, answers, *refused, 400, 401, 404, 503, **more))


def _eureka(path: str) -> Json:
    found = _operation("Eureka's API, for Eureka's clients.", {})
    names = re.findall(r"{(\w+)}", path)
    answers = {"2XX": {"description": "As Eureka answers."}, "4XX": {"description": "Refused."}}
    return {**found, "parameters": [in_path(name) for name in names], "responses": answers}


def _instances(**more: Json) -> Json:
    return an_object((*more, "instances"), **more, instances=list_of(ref("Instance")))


PATHS: dict[str, Json] = {
    "/": {"get": _operation("That it is there.", {200: EMPTY})},
    "/uptime": {
        "get": _operation(
            "How it is: component → healthy and properties.",
            {
                status: in_json(
                    {"type": "object", "additionalProperties": an_object(("healthy", "properties"))}
                )
                for status in (200, 503)
            },
        )
    },
    "/metrics": {
        "get": _operation("Figures for Prometheus.", {200: plain("Text, version 0.0.4.", "text/plain")}, 401)
    },
    "/openapi.json": {"get": _operation("This document.", {200: in_json({"type": "object"})})},
    "/api/v1/instances": {
        "get": _tenants(
            "Find instances.",
            {200: in_json(_instances())},
            parameters=[
                query("id", text(), "Exactly this."),
                query("service_name", text(), "Exactly this."),
                query("status", text(), "One status, or ALL."),
                query("tags", list_of(text()), "All of these.", style="form", explode=False),
                query("fields", list_of(text(enum=list(FIELDS))), "To show.", style="form", explode=False),
            ],
        ),
        "post": _tenants(
            "Register an instance, or register it again.",
            {
                201: {
                    **in_json(ref("Granted")),
                    "headers": {"Location": {"schema": text(), "description": "links.self"}},
                }
            },
            403,
            body=ref("Registration"),
        ),
    },
    "/api/v1/instances/watch": {
        "get": _tenants(
            "Follow all changes.",
            {200: plain("Server-sent events.", "text/event-stream")},
            parameters=[
                query(
                    "service_name", list_of(_SERVICE, maxItems=100), "Only these.", style="form", explode=True
                ),
                query("protocol", {"type": "integer", "minimum": 0}, "Which the client speaks."),
                {"name": "Last-Event-ID", "in": "header", "schema": text(), "description": "Resume here."},
            ],
        )
    },
    "/api/v1/instances/{id}": {
        "get": _tenants("Show one.", {200: in_json(ref("Instance"))}, parameters=[in_path("id")]),
        "delete": _tenants("Deregister one.", {200: EMPTY}, 410, parameters=[in_path("id")]),
    },
    "/api/v1/instances/{id}/heartbeat": {
        "put": _tenants("Renew a lease.", {200: EMPTY}, 410, parameters=[in_path("id")])
    },
    "/api/v1/heartbeats": {
        "put": _tenants(
            "Renew many leases.",
            {200: in_json(an_object(("unknown",), unknown=list_of(text())))},
            body=an_object(("ids",), ids=list_of(text(), maxItems=IDS_LIMIT)),
        )
    },
    "/api/v1/events": {
        "get": _tenants(
            "What happened lately, oldest first.",
            {200: in_json(an_object(("events",), events=list_of(ref("Event"))))},
            parameters=[query("service_name", text(), "Only of this one.")],
        )
    },
    "/api/v1/services": {
        "get": _tenants(
            "Names of services.", {200: in_json(an_object(("services",), services=list_of(text())))}
        )
    },
    "/api/v1/services/{name}": {
        "get": _tenants(
            "The instances of a service, in every status.",
            {200: in_json(_instances(service_name=text()))},
            parameters=[in_path("name")],
        )
    },
}
"""Path → method → operation, of all that is not Eureka's."""
