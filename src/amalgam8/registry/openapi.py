"""The registry's API as an OpenAPI document, served at ``/openapi.json``.

Written by hand beside the code, and held to it: a test compares it with the table of routes, another lets
schemathesis try a served registry. Routes of Eureka's API are listed from that table, without bodies, which
are Eureka's own. Refuses to describe what a stream tells: ``docs/reference/streams.md``.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from starlette.routing import BaseRoute, Route

from amalgam8.model.instance import ENDPOINT_TYPES, STATUSES
from amalgam8.registry.heartbeats import IDS_LIMIT
from amalgam8.registry.query import FIELDS
from amalgam8.web.plain import PlainRoute

Json = dict[str, Any]

_NO_SLASH = r"^[^/\s\x00-\x1f\x7f]+$"
_NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"


def _text(**more: Any) -> Json:
    return {"type": "string", **more}


def _object(required: Sequence[str], **members: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": members}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(of: Json, **more: Any) -> Json:
    return {"type": "array", "items": of, **more}


# What a client may send is told in characters; the limits are in bytes, so that these are a little strict.
_SERVICE = _text(minLength=1, maxLength=64, pattern=_NO_SLASH)

SCHEMAS: Json = {
    "Error": _object(
        ("Error", "code", "request_id"),
        Error=_text(description="For people."),
        code=_text(description="For programs; does not change."),
        request_id=_text(),
    ),
    "Endpoint": _object(
        ("type", "value"),
        type=_text(enum=list(ENDPOINT_TYPES)),
        value=_text(minLength=1, maxLength=128, pattern=_NO_CONTROL),
    ),
    "Registration": _object(
        ("service_name", "endpoint"),
        service_name=_SERVICE,
        endpoint=_ref("Endpoint"),
        ttl={"type": ["integer", "null"], "minimum": 0, "description": "Seconds; 0: the default."},
        status={"type": ["string", "null"], "description": f"One of {', '.join(STATUSES)}, in any case."},
        tags={"type": ["array", "null"], "items": _text(maxLength=1024, pattern=_NO_CONTROL), "maxItems": 64},
        metadata={"description": "Any JSON of at most 1024 bytes."},
    ),
    "Granted": _object(
        ("id", "ttl", "links"),
        id=_text(),
        ttl={"type": "integer", "minimum": 1},
        links=_object(("self", "heartbeat"), self=_text(), heartbeat=_text()),
    ),
    "Instance": _object(
        ("id", "endpoint"),
        id=_text(),
        service_name=_text(),
        endpoint=_object(("value",), type=_text(), value=_text()),
        ttl={"type": "integer"},
        status=_text(),
        metadata={},
        last_heartbeat=_text(description="RFC 3339."),
        tags=_list(_text()),
    ),
    "Event": _object(
        ("time", "event", "reason"),
        time=_text(),
        event=_text(enum=["registered", "changed", "removed", "expired", "frozen", "thawed"]),
        reason=_text(),
        service_name=_text(),
        id=_text(),
        status=_text(),
    ),
}


def document(routes: Iterable[BaseRoute], version: str) -> bytes:
    """The document as JSON; ``routes`` are those of Eureka's API."""
    paths = {path: dict(methods) for path, methods in PATHS.items()}
    for route in routes:
        if isinstance(route, (Route, PlainRoute)) and route.path not in PATHS:
            for method in sorted((route.methods or set()) - {"HEAD"}):
                paths.setdefault(route.path, {})[method.lower()] = _eureka(route.path)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Amalgam8 registry", "version": version, "license": {"name": "Apache-2.0"}},
            "paths": paths,
            "components": {
                "schemas": SCHEMAS,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _json(schema: Json, description: str = "Done.") -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _plain(description: str, kind: str) -> Json:
    return {"description": description, "content": {kind: {"schema": _text()}}}


_EMPTY: Json = {"description": "Done; no body."}
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


def _operation(
    summary: str,
    answers: dict[int, Json],
    *refusals: int,
    parameters: Sequence[Json] = (),
    body: Json | None = None,
) -> Json:
    refused = {*refusals, *((408, 413, 415) if body else ())}
    found: Json = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            **{str(status): answer for status, answer in answers.items()},
            **{str(status): _json(_ref("Error"), _REFUSALS[status]) for status in sorted(refused)},
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found


def _tenants(*arguments: Any, **more: Any) -> Json:
    """An operation of the API proper: for a tenant."""
    found = _operation(*arguments, 400, 401, 404, 503, **more)
    found["parameters"].append(
        {"name": "A8-Namespace", "in": "header", "schema": _text(), "description": "For whom, of an admin."}
    )
    return {**found, "security": [{}, {"token": []}]}


def _query(name: str, schema: Json, description: str, **more: Any) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description, **more}


def _in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": _text(minLength=1, pattern=_NO_SLASH)}


def _eureka(path: str) -> Json:
    found = _operation("Eureka's API, for Eureka's clients.", {})
    names = re.findall(r"{(\w+)}", path)
    answers = {"2XX": {"description": "As Eureka answers."}, "4XX": {"description": "Refused."}}
    return {**found, "parameters": [_in_path(name) for name in names], "responses": answers}


def _instances(**more: Json) -> Json:
    return _object((*more, "instances"), **more, instances=_list(_ref("Instance")))


PATHS: dict[str, Json] = {
    "/": {"get": _operation("That it is there.", {200: _EMPTY})},
    "/uptime": {
        "get": _operation(
            "How it is: component → healthy and properties.",
            {
                status: _json({"type": "object", "additionalProperties": _object(("healthy", "properties"))})
                for status in (200, 503)
            },
        )
    },
    "/metrics": {
        "get": _operation("Figures for Prometheus.", {200: _plain("Text, version 0.0.4.", "text/plain")}, 401)
    },
    "/openapi.json": {"get": _operation("This document.", {200: _json({"type": "object"})})},
    "/api/v1/instances": {
        "get": _tenants(
            "Find instances.",
            {200: _json(_instances())},
            parameters=[
                _query("id", _text(), "Exactly this."),
                _query("service_name", _text(), "Exactly this."),
                _query("status", _text(), "One status, or ALL."),
                _query("tags", _list(_text()), "All of these.", style="form", explode=False),
                _query("fields", _list(_text(enum=list(FIELDS))), "To show.", style="form", explode=False),
            ],
        ),
        "post": _tenants(
            "Register an instance, or register it again.",
            {
                201: {
                    **_json(_ref("Granted")),
                    "headers": {"Location": {"schema": _text(), "description": "links.self"}},
                }
            },
            403,
            body=_ref("Registration"),
        ),
    },
    "/api/v1/instances/watch": {
        "get": _tenants(
            "Follow all changes.",
            {200: _plain("Server-sent events.", "text/event-stream")},
            parameters=[
                _query(
                    "service_name", _list(_SERVICE, maxItems=100), "Only these.", style="form", explode=True
                ),
                _query("protocol", {"type": "integer", "minimum": 0}, "Which the client speaks."),
                {"name": "Last-Event-ID", "in": "header", "schema": _text(), "description": "Resume here."},
            ],
        )
    },
    "/api/v1/instances/{id}": {
        "get": _tenants("Show one.", {200: _json(_ref("Instance"))}, parameters=[_in_path("id")]),
        "delete": _tenants("Deregister one.", {200: _EMPTY}, 410, parameters=[_in_path("id")]),
    },
    "/api/v1/instances/{id}/heartbeat": {
        "put": _tenants("Renew a lease.", {200: _EMPTY}, 410, parameters=[_in_path("id")])
    },
    "/api/v1/heartbeats": {
        "put": _tenants(
            "Renew many leases.",
            {200: _json(_object(("unknown",), unknown=_list(_text())))},
            body=_object(("ids",), ids=_list(_text(), maxItems=IDS_LIMIT)),
        )
    },
    "/api/v1/events": {
        "get": _tenants(
            "What happened lately, oldest first.",
            {200: _json(_object(("events",), events=_list(_ref("Event"))))},
            parameters=[_query("service_name", _text(), "Only of this one.")],
        )
    },
    "/api/v1/services": {
        "get": _tenants("Names of services.", {200: _json(_object(("services",), services=_list(_text())))})
    },
    "/api/v1/services/{name}": {
        "get": _tenants(
            "The instances of a service, in every status.",
            {200: _json(_instances(service_name=_text()))},
            parameters=[_in_path("name")],
        )
    },
}
"""Path → method → operation, of all that is not Eureka's."""
