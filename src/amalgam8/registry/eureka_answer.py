"""Answers of the Eureka API: instances as Eureka shows them, in JSON or XML as the client asks for it.

A client that names neither gets JSON where the original served, and XML at Netflix' own paths, as from
Netflix' server. Refuses to show what an override hides.
"""

from collections.abc import Iterable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from amalgam8.catalogs.eureka_document import (
    PUBLISHED_KEY,
    Document,
    encode,
    instance_id_of,
    write_instance,
)
from amalgam8.model.instance import Instance
from amalgam8.registry.catalogued import Listed
from amalgam8.registry.eureka_change import REPORTED
from amalgam8.registry.lease import Lease

NETFLIX = "/eureka"
XML = "application/xml"
JSON = "application/json; charset=utf-8"


def document_of(lease: Lease, action: str = "ADDED") -> Document:
    """An instance that has a lease, or that a catalogue has.

    One that comes from a Eureka is marked as published: two registries that are each other's catalogue would
    keep it alive between them for ever.
    """
    instance = lease.instance
    shown = write_instance(
        instance, extension_of(instance), registered=lease.since, renewed=lease.heard, action=action
    )
    if isinstance(lease, Listed) and instance.id == instance_id_of(
        instance.service_name, shown["instanceId"]
    ):
        shown["metadata"][PUBLISHED_KEY] = "true"
    return shown


def extension_of(instance: Instance) -> Document | None:
    """What else its registration said, as far as it is shown."""
    if not isinstance(instance.extension, msgspec.Raw):
        return None
    found: Document = msgspec.json.decode(instance.extension)
    found.pop(REPORTED, None)
    return found


def empty(status: int = 200) -> Response:
    """An answer without a body."""
    return Response(b"", status, media_type=JSON)


def answer(request: Request, document: Document) -> Response:
    """A document in the form that the request asks for."""
    xml = wants_xml(request.headers.get("accept", ""), otherwise=request.scope["path"].startswith(NETFLIX))
    return Response(encode(document, xml=xml), media_type=XML if xml else JSON)


def wants_xml(accept: str, *, otherwise: bool) -> bool:
    """Whether XML is asked for; ``otherwise``: where neither XML nor JSON is named."""
    weights = {"json": 0.0, "xml": 0.0}
    for element in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in element.split(";"))
        form = kind.rpartition("/")[2]
        if form in weights:
            weights[form] = max(weights[form], _quality(parameters))
    if not any(weights.values()):
        return otherwise
    return weights["xml"] > weights["json"]


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
