"""What the Eureka API changes of an instance that is there: its status, by override, and its metadata. Pure.

An override stands above what the instance itself reports until it is taken back, as with Netflix' server;
DOWN and STARTING are the instance's own to say. Both statuses are kept in the extension. Refuses metadata
that are no object, or too long.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from amalgam8.catalogs.eureka_document import TAGS_KEY, Document, tags_of
from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Instance
from amalgam8.model.instance_check import METADATA_LIMIT, check_instance

OVERRIDE = "overriddenstatus"
REPORTED = "$status"
"""Member of the extension, never shown: what the instance says of itself, beneath an override."""

NONE = "UNKNOWN"
"""How Eureka writes that there is no override."""

_ITS_OWN = frozenset({"DOWN", "STARTING"})


def overridden(instance: Instance, status: str) -> Instance:
    """The instance with this status, whatever it reports."""
    extension = _extension(instance)
    extension.setdefault(REPORTED, instance.status)
    extension[OVERRIDE] = status
    return _with(instance, extension, status)


def restored(instance: Instance, status: str) -> Instance:
    """The instance without an override: with this status, or if empty with the one that it reports."""
    extension = _extension(instance)
    reported = extension.pop(REPORTED, instance.status)
    extension[OVERRIDE] = NONE
    return _with(instance, extension, status or reported)


def under_override(instance: Instance, known: Instance) -> Instance:
    """What a registration becomes where the instance is known already, with or without an override."""
    override = _extension(known).get(OVERRIDE)
    if not isinstance(override, str) or override in ("", NONE) or REPORTED not in _extension(known):
        return instance
    if instance.status in _ITS_OWN:
        return instance
    extension = {**_extension(instance), OVERRIDE: override, REPORTED: instance.status}
    return _with(instance, extension, override)


def with_metadata(instance: Instance, members: Mapping[str, str]) -> Instance:
    """The instance with these members of its metadata put in, and its tags if they are among them.

    Raises:
        InvalidInstance: metadata that are no object or become too long; tags that nobody could use.
    """
    known: Any = {}
    if isinstance(instance.metadata, msgspec.Raw):
        known = msgspec.json.decode(instance.metadata)
    if not isinstance(known, dict | None):
        raise InvalidInstance("the metadata of this instance are no object")
    metadata = {**(known or {}), **members}
    raw = msgspec.json.encode(metadata)
    if len(raw) > METADATA_LIMIT:
        raise InvalidInstance(f"metadata is longer than {METADATA_LIMIT} bytes")
    tags = tags_of(metadata) if TAGS_KEY in members else instance.tags
    changed = msgspec.structs.replace(instance, metadata=msgspec.Raw(raw), tags=tags)
    check_instance(changed)
    return changed


def _extension(instance: Instance) -> Document:
    if not isinstance(instance.extension, msgspec.Raw):
        return {}
    found: Document = msgspec.json.decode(instance.extension)
    return found


def _with(instance: Instance, extension: Document, status: str) -> Instance:
    raw = msgspec.Raw(msgspec.json.encode(extension))
    return msgspec.structs.replace(instance, status=status, extension=raw)
