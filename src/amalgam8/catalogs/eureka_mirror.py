"""What a Eureka server knows, followed by full documents and deltas. Pure.

After each delta both ends' hash codes are compared; where they differ, the mirror says that a full document
is needed. All instances count in the hash, also those that are not shown: unreadable ones, and those that a
registry has published there itself, which would come back in a circle.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from amalgam8.catalogs.catalog import NEVER_HEARD
from amalgam8.catalogs.eureka_document import (
    PUBLISHED_KEY,
    Applications,
    Document,
    hashcode,
    instance_key,
    read_instance,
)
from amalgam8.model.errors import InvalidInstance
from amalgam8.model.instance import Instance

NO_VERSION = -1
"""The version of a server that knows no deltas."""

Key = tuple[str, str]


class _Held(msgspec.Struct, frozen=True):
    status: str
    instance: Instance | None


class Mirror:
    """``known`` is False before the first full document."""

    def __init__(self) -> None:
        self.known = False
        self._version: int | None = None
        self._held: dict[Key, _Held] = {}
        self.problems: Counter[str] = Counter()
        """Why how many of the last document's instances are left out."""

    def instances(self) -> Iterable[Instance]:
        """What is shown."""
        return tuple(held.instance for held in self._held.values() if held.instance is not None)

    def full(self, document: Applications) -> None:
        """Take everything anew."""
        self.problems.clear()
        held: dict[Key, _Held] = {}
        for one in document.instances:
            held[_key(one)] = self._read(one)
        self._held = held
        # A version of the full document says nothing about which deltas it holds.
        self._version = None
        self.known = True

    def delta(self, document: Applications) -> bool:
        """Apply what has changed; False: a full document is needed."""
        if not self.known or document.version in (None, NO_VERSION) or document.hashcode is None:
            return False
        if document.version != self._version:
            self.problems.clear()
            for one in document.instances:
                if str(one.get("actionType") or "ADDED").upper() == "DELETED":
                    self._held.pop(_key(one), None)
                else:
                    self._held[_key(one)] = self._read(one)
        self._version = document.version
        return hashcode(held.status for held in self._held.values()) == document.hashcode

    def _read(self, one: Document) -> _Held:
        instance: Instance | None = None
        try:
            instance = msgspec.structs.replace(
                read_instance(one, strict=False).instance, last_heartbeat=NEVER_HEARD
            )
        except InvalidInstance as error:
            self.problems[str(error)] += 1
        metadata = one.get("metadata")
        if isinstance(metadata, dict) and metadata.get(PUBLISHED_KEY):
            instance = None
        return _Held(str(one.get("status") or "UP"), instance)


def _key(one: Document) -> Key:
    try:
        identity = instance_key(one)
    except InvalidInstance:
        identity = str(one.get("hostName") or "")
    return str(one.get("app") or "").upper(), identity
