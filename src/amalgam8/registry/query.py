"""Filters and the projection of ``GET /api/v1/instances``. Pure.

Wire format: ``docs/reference/registry-api.md``. Keeps the documented surprise: without any criterion,
instances that are STARTING or OUT_OF_SERVICE are hidden; with any other one, all statuses are shown.
A tag with a comma can be registered, but not asked for: the filter splits at commas.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from amalgam8.model.errors import InvalidQuery
from amalgam8.model.instance import STATUSES, Instance

FIELDS = (
    "id",
    "service_name",
    "endpoint",
    "ttl",
    "status",
    "metadata",
    "last_heartbeat",
    "links",
    "tags",
)
"""JSON names of an instance. ``links`` stands in the answer to a registration only."""

CRITERIA = ("id", "service_name", "status", "tags")
_HIDDEN = frozenset({"STARTING", "OUT_OF_SERVICE"})
_ALWAYS = frozenset({"id", "endpoint"})


class InstanceQuery(msgspec.Struct, frozen=True):
    """What to look for; None where nothing was said. ``status`` is normalised, ``ALL`` takes any."""

    id: str | None = None
    service_name: str | None = None
    status: str | None = None
    tags: frozenset[str] | None = None
    fields: frozenset[str] | None = None

    def matches(self, instance: Instance) -> bool:
        """Whether the instance meets every criterion."""
        if self.id is not None and instance.id != self.id:
            return False
        if self.service_name is not None and instance.service_name != self.service_name:
            return False
        if self.tags is not None and not self.tags.issubset(instance.tags):
            return False
        return self._shows(instance.status)

    def _shows(self, status: str) -> bool:
        alone = self.id is None and self.service_name is None and self.tags is None
        if self.status is None:
            return not alone or status not in _HIDDEN
        return self.status in ("ALL", status)


def parse_query(pairs: Iterable[tuple[str, str]]) -> InstanceQuery:
    """Read query parameters; of a repeated one the first counts.

    Raises:
        InvalidQuery: first for ``fields``, then for any other parameter.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        given.setdefault(name, value)
    fields = _fields(given.pop("fields")) if "fields" in given else None
    for name in given:
        if name not in CRITERIA:
            known = "cannot be filtered by" if name in FIELDS else "is no parameter"
            raise InvalidQuery(f"{name[:64]!r} {known}; there are {', '.join(CRITERIA)} and fields")
    tags = given.get("tags")
    return InstanceQuery(
        given.get("id"),
        given.get("service_name"),
        _status(given["status"]) if "status" in given else None,
        None if tags is None else frozenset(tags.split(",")),
        fields,
    )


def projection(fields: frozenset[str]) -> Callable[[Instance], dict[str, Any]]:
    """A function to the members that are shown: ``fields``, and always ``id`` and ``endpoint``."""
    names = [name for name in Instance.__struct_fields__ if name in fields | _ALWAYS]

    def project(instance: Instance) -> dict[str, Any]:
        shown = ((name, getattr(instance, name)) for name in names)
        return {name: value for name, value in shown if value or isinstance(value, msgspec.Raw)}

    return project


def _fields(text: str) -> frozenset[str]:
    fields = frozenset(text.split(",")) if text else frozenset()
    for name in sorted(fields):
        if name not in FIELDS:
            raise InvalidQuery(f"fields: {name[:64]!r} is no member; there are {', '.join(FIELDS)}")
    return fields


def _status(text: str) -> str:
    upper = text.upper()
    return upper if upper in STATUSES or upper == "ALL" else text
