"""What the controller's OpenAPI document calls by name: errors, rules, revisions, sidecars, rollouts.

Rules are described by the language's own schema, ``model.schema``, part by part. Refuses to know paths.
"""

import msgspec

from amalgam8.model.schema import rule_schema
from amalgam8.web.openapi import NO_SLASH, Json, an_object, list_of, ref, text

REVISION = {"type": "integer", "minimum": 0}
ANY: Json = {"type": "object"}
NAME = text(minLength=1, maxLength=64, pattern=NO_SLASH)
NUMBER: Json = {"type": "number"}


def _rule_schemas() -> dict[str, Json]:
    """The parts of the rule language under names of this document."""
    parts = rule_schema()["$defs"]
    encoded = msgspec.json.encode(parts).replace(b"#/$defs/", b"#/components/schemas/rule-")
    found: dict[str, Json] = msgspec.json.decode(encoded)
    return {f"rule-{name}": part for name, part in found.items()}


SCHEMAS: dict[str, Json] = {
    "Error": an_object(
        ("error", "description", "code", "request_id"),
        error=text(description="As the original wrote it."),
        description=text(description="For people."),
        code=text(description="For programs; does not change."),
        request_id=text(),
    ),
    "Rules": an_object(("rules", "revision"), rules=list_of(ANY), revision=REVISION),
    "ByService": an_object(("services",), services={"type": "object", "additionalProperties": list_of(ANY)}),
    "Written": an_object(
        (),
        ids=list_of(text()),
        revision=REVISION,
        confirm_by=text(),
        applied={"type": "boolean"},
        concerned={"type": "integer"},
        missing=list_of(ref("Standing")),
    ),
    "Standing": an_object(
        ("id", "service", "tags", "state", "since"),
        id=text(),
        service=text(),
        tags=list_of(text()),
        state=text(enum=["pending", "applied", "rejected", "gone"]),
        since=text(),
        reason=text(),
    ),
    "Status": an_object(
        ("id", "revision", "applied", "concerned", "sidecars", "note"),
        id=text(),
        revision=REVISION,
        applied={"type": "boolean"},
        concerned={"type": "integer"},
        sidecars=list_of(ref("Standing")),
        note=text(),
    ),
    "Revision": an_object(
        ("revision", "at", "cause", "author", "comment", "request_id", "created", "updated", "removed"),
        revision=REVISION,
        at=text(),
        cause=text(),
        author=text(),
        comment=text(),
        request_id=text(),
        created=list_of(text()),
        updated=list_of(text()),
        removed=list_of(text()),
        about=list_of(REVISION),
        confirm_by=text(),
        difference=list_of(ANY),
    ),
    "Done": an_object(
        ("revision", "created", "updated", "removed"),
        revision=REVISION,
        created=list_of(text()),
        updated=list_of(text()),
        removed=list_of(text()),
    ),
    "Sidecar": an_object(
        ("id", "service", "tags", "proxy", "revision", "state", "reason", "age"),
        id=text(),
        service=text(),
        tags=list_of(text()),
        proxy=text(),
        revision=REVISION,
        state=text(enum=["pending", "applied", "rejected", "gone"]),
        reason=text(),
        age=NUMBER,
    ),
    "Rollout": an_object(
        ("id", "service", "version", "state", "step", "share", "reason", "rule", "created", "events"),
        id=text(),
        service=text(),
        version=list_of(text()),
        state=text(),
        share=NUMBER,
        events=list_of(ANY),
    ),
    **_rule_schemas(),
}
