"""Eureka's documents to and from instances, in JSON and XML. Pure; for both ends of the wire.

``read_instance`` takes what a Eureka client registers or a Eureka server lists; ``write_instance`` shows an
instance as Eureka would. What an Instance has no place for is the *extension*: the rest of the document,
which comes back when it is shown. Wire format: Eureka's REST API, version 2, in the shape of its JSON.
Service names are lower-case here and upper-case there.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from amalgam8.catalogs.eureka_xml import from_xml, to_xml
from amalgam8.model.errors import BadAnswer, InvalidInstance
from amalgam8.model.instance import Endpoint, Instance, address_of
from amalgam8.model.instance_check import METADATA_LIMIT, check_instance

Document = dict[str, Any]

DURATION = 90
"""Seconds that a lease holds where its document does not say."""
TAGS_KEY = "amalgam8.tags"
PUBLISHED_KEY = "amalgam8.published"
"""Metadata key of instances that a registry has put into a Eureka itself; no catalogue brings them back."""
STATUS_LIMIT = 32

_DATA_CENTER = {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"}
_PORTS = {"port": 7001, "securePort": 7002}
"""What Eureka shows for ports that are off."""
_OURS = frozenset(
    {"instanceId", "app", "status", "metadata", "actionType", "lastUpdatedTimestamp", "lastDirtyTimestamp"}
)
"""Members that are written anew each time; the extension does not keep them."""
_TEXTS = (
    *("instanceId", "hostName", "app", "appGroupName", "ipAddr", "vipAddress", "secureVipAddress"),
    *("homePageUrl", "statusPageUrl", "healthCheckUrl", "overriddenstatus"),
)
_OBJECTS = ("leaseInfo", "dataCenterInfo")
_ID_OF_DATA_CENTER = {"amazon": "instance-id", "softlayer": "getId"}


class Registered(msgspec.Struct, frozen=True):
    """An instance of a document, and the rest of the document. ``ttl`` is as it was asked for."""

    instance: Instance
    extension: Document


class Applications(msgspec.Struct, frozen=True):
    """The document of ``/apps`` and ``/apps/delta``; None where a member is missing."""

    version: int | None
    hashcode: str | None
    instances: tuple[Document, ...]


def decode(data: bytes) -> Document:
    """A document from JSON or XML, whichever it is.

    Raises:
        BadAnswer: neither.
    """
    if data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] == b"<":
        return from_xml(data)
    try:
        return msgspec.json.decode(data, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadAnswer(f"no JSON object: {error}") from None


def encode(document: Document, *, xml: bool = False) -> bytes:
    """A document with one member, its root, as JSON or XML."""
    return to_xml(document) if xml else msgspec.json.encode(document)


def read_applications(document: Document) -> Applications:
    """Read ``{"applications": …}``; a single application or instance may stand for a list of one.

    Raises:
        BadAnswer: another document.
    """
    body = document.get("applications")
    if body is None or body == "":
        body = {} if "applications" in document else None
    if not isinstance(body, dict):
        raise BadAnswer("a document without 'applications'")
    found = []
    for application in _list(body.get("application")):
        if not isinstance(application, dict):
            raise BadAnswer("an application is not an object")
        for one in _list(application.get("instance")):
            if not isinstance(one, dict):
                raise BadAnswer("an instance is not an object")
            found.append(one if one.get("app") else {**one, "app": application.get("name")})
    hashcode = body.get("apps__hashcode")
    return Applications(
        _whole(body.get("versions__delta")), hashcode if isinstance(hashcode, str) else None, tuple(found)
    )


def write_applications(documents: Iterable[Document], *, version: int = 1, hashcode: str = "") -> Document:
    """``{"applications": …}`` of instances as write_instance makes them; ``hashcode`` is of all there are."""
    by_app: dict[str, list[Document]] = {}
    for one in documents:
        by_app.setdefault(one["app"], []).append(one)
    return {
        "applications": {
            "versions__delta": str(version),
            "apps__hashcode": hashcode,
            "application": [{"name": name, "instance": some} for name, some in sorted(by_app.items())],
        }
    }


def hashcode(statuses: Iterable[str]) -> str:
    """What two ends compare to see whether they know the same: ``DOWN_1_UP_3_``."""
    return "".join(f"{status}_{count}_" for status, count in sorted(Counter(statuses).items()))


def instance_key(document: Document) -> str:
    """The id that Eureka knows the instance by within its application.

    Raises:
        InvalidInstance: there is none.
    """
    if identity := _string(document, "instanceId"):
        return identity
    center = document.get("dataCenterInfo")
    center = center if isinstance(center, dict) else {}
    kind = str(center.get("name") or "").lower()
    if kind in ("", "none", "myown", "netflix"):
        identity = _string(document, "hostName")
    elif kind in _ID_OF_DATA_CENTER:
        inner = center.get("metadata")
        identity = _string(inner if isinstance(inner, dict) else {}, _ID_OF_DATA_CENTER[kind])
    else:
        raise InvalidInstance(f"dataCenterInfo.name: {kind[:32]!r} is not known, and there is no instanceId")
    if not identity:
        raise InvalidInstance("there is no instanceId, and nothing to take in its place")
    return identity


def instance_id_of(app: str, key: str) -> str:
    """The id here of the instance that Eureka knows as ``key`` of ``app``."""
    return f"{app.lower()}:{key}"


def ids_meant(app: str, key: str) -> tuple[str, ...]:
    """The ids that a path ``/apps/{app}/{key}`` may mean, likeliest first: ``key`` with or without prefix."""
    first = instance_id_of(app, key)
    prefix = f"{app.lower()}:"
    if key.lower().startswith(prefix):
        return first, prefix + key[len(prefix) :]
    return first, key


def read_instance(document: Document, app: str = "", *, strict: bool = True) -> Registered:
    """The instance of a document. ``app`` is the application that the path names, if any.

    ``strict`` is for registrations: hostName, ipAddr and vipAddress must be there, metadata within bounds.

    Raises:
        InvalidInstance: names the member that is missing or wrong.
    """
    _check_types(document)
    name = _string(document, "app") or app
    if app and name.lower() != app.lower():
        raise InvalidInstance(f"app is {name[:64]!r}, and the path says {app[:64]!r}")
    for member in ("hostName", "ipAddr", "vipAddress") if strict else ():
        if not _string(document, member):
            raise InvalidInstance(f"{member} is missing")
    metadata = _metadata(document)
    raw = msgspec.json.encode(metadata)
    if strict and len(raw) > METADATA_LIMIT:
        raise InvalidInstance(f"metadata is longer than {METADATA_LIMIT} bytes")
    status = document.get("status", "UP")
    if not isinstance(status, str) or len(status.encode()) > STATUS_LIMIT:
        raise InvalidInstance(f"status must be a text of at most {STATUS_LIMIT} bytes")
    instance = Instance(
        instance_id_of(name, instance_key(document)),
        name.lower(),
        _endpoint(document),
        _duration(document),
        status,
        msgspec.Raw(raw),
        tags=tags_of(metadata),
    )
    check_instance(instance)
    rest = {key: value for key, value in document.items() if key not in _OURS and value is not None}
    return Registered(instance, rest)


def tags_of(metadata: Document) -> tuple[str, ...]:
    """The tags that metadata say, each once."""
    texts = str(metadata.get(TAGS_KEY) or "").replace(";", ",").split(",")
    return tuple(dict.fromkeys(filter(None, (tag.strip() for tag in texts))))


def write_instance(
    instance: Instance,
    extension: Document | None = None,
    *,
    registered: float = 0.0,
    renewed: float = 0.0,
    action: str = "ADDED",
) -> Document:
    """The instance as Eureka shows it; ``registered`` and ``renewed`` are Unix times in seconds.

    What the instance says beats the extension.
    """
    rest = dict(extension or {})
    since, heard = int(registered * 1000), int(renewed * 1000)
    lease = rest.get("leaseInfo")
    duration = instance.ttl or DURATION
    prefix = f"{instance.service_name.lower()}:"
    shown: Document = {
        "appGroupName": "UNKNOWN",
        **_place(instance),
        "vipAddress": instance.service_name,
        "secureVipAddress": instance.service_name,
        "countryId": 1,
        "dataCenterInfo": dict(_DATA_CENTER),
        "overriddenstatus": "UNKNOWN",
        "isCoordinatingDiscoveryServer": "false",
        **rest,
        "instanceId": instance.id.removeprefix(prefix),
        "app": instance.service_name.upper(),
        "status": instance.status or "UNKNOWN",
        "leaseInfo": {
            "renewalIntervalInSecs": max(1, duration // 3),
            "evictionTimestamp": 0,
            "serviceUpTimestamp": since,
            **(lease if isinstance(lease, dict) else {}),
            "durationInSecs": duration,
            "registrationTimestamp": since,
            "lastRenewalTimestamp": heard,
        },
        "metadata": _texts(instance),
        "lastUpdatedTimestamp": str(since),
        "lastDirtyTimestamp": str(since),
        "actionType": action,
    }
    for member in _PORTS:
        number, enabled = _port(shown, member)
        shown[member] = {"$": number or _PORTS[member], "@enabled": "true" if enabled else "false"}
    return shown


def _check_types(document: Document) -> None:
    """Refuse what readers in typed languages would stumble over, everybody's listing with it."""
    for member in _TEXTS:
        if not isinstance(document.get(member), str | None):
            raise InvalidInstance(f"{member} must be a text")
    for member in _OBJECTS:
        if document.get(member) != "" and not isinstance(document.get(member), dict | None):
            raise InvalidInstance(f"{member} must be an object")


def _endpoint(document: Document) -> Endpoint:
    host = _string(document, "hostName") or _string(document, "ipAddr")
    if not host:
        raise InvalidInstance("hostName is missing")
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    for member, kind in (("securePort", "https"), ("port", "tcp")):
        number, enabled = _port(document, member)
        if enabled:
            if not 1 <= number <= 65535:
                raise InvalidInstance(f"{member} must be a number from 1 to 65535")
            return Endpoint(kind, f"{bracketed}:{number}")
    return Endpoint("tcp", bracketed)


def _port(document: Document, member: str) -> tuple[int, bool]:
    """Number (0: none that can be read) and whether it is on; a bare number is on."""
    value = document.get(member)
    if not isinstance(value, dict):
        number = _whole(value)
        return number or 0, member == "port" and bool(number)
    enabled = value.get("@enabled")
    return _whole(value.get("$")) or 0, enabled is True or str(enabled).strip().lower() == "true"


def _duration(document: Document) -> int:
    lease = document.get("leaseInfo")
    seconds = _whole(lease.get("durationInSecs")) if isinstance(lease, dict) else None
    return seconds if seconds and seconds > 0 else DURATION


def _metadata(document: Document) -> Document:
    metadata = document.get("metadata")
    if metadata is None or metadata == "":
        return {}
    if not isinstance(metadata, dict):
        raise InvalidInstance("metadata must be an object")
    # Eureka's way to write an empty map; nobody's metadata.
    return {
        key: value
        for key, value in metadata.items()
        if (key, value) != ("@class", "java.util.Collections$EmptyMap")
    }


def _texts(instance: Instance) -> dict[str, str]:
    """Metadata as Eureka has it, texts by name: other values as JSON, and nothing where it is no object."""
    value = msgspec.json.decode(instance.metadata) if isinstance(instance.metadata, msgspec.Raw) else {}
    pairs = value.items() if isinstance(value, dict) else ()
    shown = {key: one if isinstance(one, str) else msgspec.json.encode(one).decode() for key, one in pairs}
    if instance.tags and TAGS_KEY not in shown:
        shown[TAGS_KEY] = ",".join(instance.tags)
    return shown


def _place(instance: Instance) -> Document:
    """hostName, ipAddr and ports from an endpoint."""
    endpoint = instance.endpoint
    address = address_of(endpoint)
    if address is None:
        return {"hostName": endpoint.value, "ipAddr": endpoint.value}
    member = "securePort" if address.tls else "port"
    number = {"$": address.port, "@enabled": "true"}
    return {"hostName": address.host, "ipAddr": address.host, member: number}


def _list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _string(document: Document, member: str) -> str:
    value = document.get(member)
    return value.strip() if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 19 else None
