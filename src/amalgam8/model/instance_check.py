"""Whether an instance can be taken: addressed, shown and kept within bounds. Pure.

``check_instance`` is for whatever is shown to sidecars, wherever it comes from; ``check_registration`` adds
what holds for those who register. Refuses what nobody could address or read back: control characters,
names with a slash or white space, tags without bound.
"""

import re

import msgspec

from amalgam8.model.caller import name_problem
from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import ENDPOINT_TYPES, STATUSES, Instance

ENDPOINT_LIMIT = 128
METADATA_LIMIT = 1024
TAGS_LIMIT = 64
TAG_LIMIT = 1024
"""All in bytes, but TAGS_LIMIT."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_instance(instance: Instance) -> None:
    """Check the name, the endpoint and the tags.

    Raises:
        InvalidInstance: names the first member that is wrong, and why.
    """
    _check_members(instance)
    _check_bounds(instance)


def check_registration(instance: Instance) -> None:
    """Check what a registration may say: check_instance, one of STATUSES, metadata within its limit.

    What is missing or unknown is told before what is too long.

    Raises:
        InvalidInstance: names the first member that is wrong, and why.
    """
    _check_members(instance)
    if instance.status not in STATUSES:
        raise InvalidInstance(f"status must be one of {', '.join(STATUSES)}")
    _check_bounds(instance)
    if instance.metadata is not msgspec.UNSET and len(bytes(instance.metadata)) > METADATA_LIMIT:
        raise InvalidInstance(f"metadata is longer than {METADATA_LIMIT} bytes")


def _check_members(instance: Instance) -> None:
    endpoint = instance.endpoint
    if not instance.service_name:
        raise InvalidInstance("service_name is missing")
    if not endpoint.type or not endpoint.value:
        raise InvalidInstance("endpoint.type and endpoint.value must both be given")
    if endpoint.type not in ENDPOINT_TYPES:
        raise InvalidInstance(f"endpoint.type must be one of {', '.join(ENDPOINT_TYPES)}")


def _check_bounds(instance: Instance) -> None:
    if problem := name_problem(instance.service_name):
        raise InvalidInstance(f"service_name {problem}")
    if not _is_plain(instance.endpoint.value, ENDPOINT_LIMIT):
        _check_text("endpoint.value", instance.endpoint.value, ENDPOINT_LIMIT)
    if len(instance.tags) > TAGS_LIMIT:
        raise InvalidInstance(f"more than {TAGS_LIMIT} tags")
    for index, tag in enumerate(instance.tags):
        if not _is_plain(tag, TAG_LIMIT):
            _check_text(f"tags[{index}]", tag, TAG_LIMIT)


def _is_plain(text: str, limit: int) -> bool:
    """Whether it is fine; nearly every text is such, and is asked no more."""
    return text.isascii() and text.isprintable() and len(text) <= limit


def _check_text(name: str, text: str, limit: int) -> None:
    if len(text.encode()) > limit:
        raise InvalidInstance(f"{name} is longer than {limit} bytes")
    if _CONTROL.search(text):
        raise InvalidInstance(f"{name} holds a control character")
