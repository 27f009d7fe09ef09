"""Words for OpenAPI documents, which both servers write by hand beside their code.

Pure. Format: OpenAPI 3.1, with JSON Schema 2020-12. What a path is and answers stands in ``registry.openapi``
and ``controller.openapi``; tests hold both to the tables of routes and to served requests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]

NO_SLASH = r"^[^/\s\x00-\x1f\x7f]+$"
NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*$"

EMPTY: Json = {"description": "Done; no body."}


def text(**more: Any) -> Json:
    return {"type": "string", **more}


def an_object(required: Sequence[str], **members: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": members}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(of: Json, **more: Any) -> Json:
    return {"type": "array", "items": of, **more}


def in_json(schema: Json, description: str = "Done.") -> Json:
    """An answer whose body is JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def plain(description: str, kind: str) -> Json:
    """An answer whose body is text of this content type."""
    return {"description": description, "content": {kind: {"schema": text()}}}


def query(name: str, schema: Json, description: str, **more: Any) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description, **more}


def in_path(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": text(minLength=1, pattern=NO_SLASH)}


def header(name: str, description: str, **more: Any) -> Json:
    return {"name": name, "in": "header", "schema": text(**more), "description": description}


def operation(
    summary: str,
    answers: Mapping[int, Json],
    refusals: Mapping[int, str],
    *refused: int,
    parameters: Sequence[Json] = (),
    body: Json | None = None,
) -> Json:
    """One operation; ``refusals`` says what each status of ``refused``, and of a wrong body, means."""
    statuses = {*refused, *((408, 413, 415) if body else ())}
    found: Json = {
        "summary": summary,
        "parameters": list(parameters),
        "responses": {
            **{str(status): answer for status, answer in answers.items()},
            **{str(status): in_json(ref("Error"), refusals[status]) for status in sorted(statuses)},
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return found


def for_tenants(found: Json) -> Json:
    """An operation of the API proper: it is for a tenant."""
    found["parameters"].append(header("A8-Namespace", "For whom, of an admin."))
    return {**found, "security": [{}, {"token": []}]}


def whole(title: str, version: str, paths: Mapping[str, Json], schemas: Mapping[str, Json]) -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version, "license": {"name": "Apache-2.0"}},
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )
