"""Reads and checks the body of a registration. Pure.

Wire format: ``POST /api/v1/instances`` (``docs/reference/registry-api.md``). As the original's, member
names match in any case and unknown members are ignored. What an instance may be is checked by
``model.instance_check``; refuses what is no such document.
"""

import functools
import sys
from typing import Annotated, Any, TypeVar

import msgspec

from amalgam8.model.errors import InvalidInstance, InvalidJson
from amalgam8.model.instance import ENDPOINT_TYPES, Endpoint, Instance, instance_id
from amalgam8.model.instance_check import check_registration

BODY_LIMIT = 64 * 1024
"""Bytes."""

SHARED_UP_TO = 256
"""Bytes of a body up to which its tags are one copy for all who say the same; and of metadata likewise."""

_TYPES = {kind: kind for kind in ENDPOINT_TYPES}
"""One text for all; what a client makes up is not kept."""

T = TypeVar("T")
Members = dict[str, msgspec.Raw]
Typed = tuple[str, Endpoint | None, int, str, tuple[str, ...], msgspec.Raw | msgspec.UnsetType]
"""service_name, endpoint, ttl, status, tags, metadata."""


class Ttls(msgspec.Struct, frozen=True):
    """What a lease's time to live may be, in whole seconds."""

    least: int = 10
    default: int = 30
    most: int = 600

    def clamp(self, asked: int) -> int:
        """The effective ttl: never an error. 0 asks for the default."""
        return min(max(asked or self.default, self.least), self.most)


def read_registration(body: bytes, ttls: Ttls) -> Instance:
    """The instance that the body asks for, with its id and its effective ttl.

    Raises:
        InvalidJson: no JSON object in UTF-8, or a member of the wrong type.
        InvalidInstance: a member that is missing, unknown as a value, or over its limit.
    """
    service, endpoint, ttl, status, tags, metadata = _usual(body) or _typed(_members(body, "the body"))
    if not service:
        raise InvalidInstance("service_name is missing")
    if endpoint is None:
        raise InvalidInstance("endpoint is missing")
    if len(body) <= SHARED_UP_TO:
        tags = _shared(tags)
    instance = Instance(
        id=instance_id(service, endpoint),
        service_name=sys.intern(service),  # one text for all instances of a service
        endpoint=endpoint,
        ttl=ttls.clamp(ttl),
        status=status.upper() or "UP",
        metadata=metadata,
        tags=tags,
    )
    check_registration(instance)
    # The original's sidecar sends one empty tag where it has none.
    return instance if all(tags) else msgspec.structs.replace(instance, tags=tuple(filter(None, tags)))


class _Endpoint(msgspec.Struct, forbid_unknown_fields=True):
    type: str | None = None
    value: str | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True):
    """A body as nearly everybody sends it: each name in lower case, each member of its type."""

    service_name: str | None = None
    endpoint: _Endpoint | None = None
    ttl: Annotated[int, msgspec.Meta(ge=0)] | None = None
    status: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_usual = msgspec.json.Decoder(_Usual).decode


def _usual(body: bytes) -> Typed | None:
    """The same as ``_typed``, in one go; None for what is not as usual, or wrong."""
    try:
        one = _decode_usual(body)
    except (ValueError, RecursionError):  # DecodeError and UnicodeDecodeError are such
        return None
    at = None
    if one.endpoint is not None:
        kind = one.endpoint.type or ""
        at = Endpoint(_TYPES.get(kind, kind), one.endpoint.value or "")
    metadata = msgspec.UNSET if one.metadata is msgspec.UNSET else _metadata(one.metadata)
    return one.service_name or "", at, one.ttl or 0, one.status or "", one.tags or (), metadata


def _typed(members: Members) -> Typed:
    """Each member in its type, in the order of the wire format; what is absent or null, empty."""
    raw = members.get("endpoint")
    endpoint = None
    if raw is not None and bytes(raw) != b"null":
        inner = _members(bytes(raw), "endpoint")
        endpoint = Endpoint(
            _member(inner, "type", str, "a text", "", "endpoint."),
            _member(inner, "value", str, "a text", "", "endpoint."),
        )
    ttl = _member(members, "ttl", int, "a whole number of seconds, 0 or more", 0)
    if ttl < 0:
        raise InvalidJson("ttl must be a whole number of seconds, 0 or more")
    service = _member(members, "service_name", str, "a text", "")
    status = _member(members, "status", str, "a text", "")
    tags = _member(members, "tags", tuple[str, ...], "a list of texts", ())
    metadata = members.get("metadata")
    return service, endpoint, ttl, status, tags, msgspec.UNSET if metadata is None else _metadata(metadata)


def _metadata(raw: msgspec.Raw) -> msgspec.Raw:
    """The text as it was sent, without the body around it."""
    text = bytes(raw)
    return _shared_metadata(text) if len(text) <= SHARED_UP_TO else _readable(text)


def _readable(text: bytes) -> msgspec.Raw:
    """Read once, so that everybody who is handed it can read it."""
    _decode(text, Any, "metadata cannot be read as JSON")
    return msgspec.Raw(text)


_shared_metadata = functools.lru_cache(maxsize=1024)(_readable)


@functools.lru_cache(maxsize=1024)
def _shared(tags: tuple[str, ...]) -> tuple[str, ...]:
    """The same for all who say the same: of a service's instances mostly all do."""
    return tags


def _members(data: bytes, what: str) -> Members:
    """An object's members by lower-case name; of several the last counts."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise InvalidJson(f"{what} is not UTF-8") from None
    found: Members = _decode(data, Members, f"{what} is not a JSON object")
    return {name.lower(): raw for name, raw in found.items()}


def _member(members: Members, name: str, kind: type[T], words: str, default: T, prefix: str = "") -> T:
    raw = members.get(name)
    if raw is None or bytes(raw) == b"null":
        return default
    value: T = _decode(bytes(raw), kind, f"{prefix}{name} must be {words}")
    return value


def _decode(data: bytes, kind: Any, problem: str) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.ValidationError, RecursionError):
        raise InvalidJson(problem) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise InvalidJson(f"{problem}: {error}") from None
