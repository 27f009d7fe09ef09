"""Events of the two watch streams, as both ends read and write them.

Wire format (server-sent events; ``docs/reference/streams.md``): ``hello`` first, always; then
``snapshot`` or ``delta`` events whose ``id`` is ``epoch.revision``. The plan's events stand in
``amalgam8.routing.plan``, since they carry parts of a Plan.
"""

import msgspec

from amalgam8.model.errors import ProtocolMismatch
from amalgam8.model.instance import Instance

PROTOCOL = 1


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """First event of every stream. ``epoch`` changes when the server has lost its memory;
    ``key`` (controller only) proves in later reports that the sidecar is the one that watched."""

    epoch: str
    revision: int
    protocol: int
    key: str = ""


class InstanceSnapshot(msgspec.Struct, frozen=True):
    """All instances at ``revision``; replaces whatever was known."""

    revision: int
    instances: tuple[Instance, ...]


class InstanceDelta(msgspec.Struct, frozen=True):
    """What changed up to ``revision``: whole instances, and ids of those that are gone."""

    revision: int
    upserted: tuple[Instance, ...] = ()
    removed: tuple[str, ...] = ()


def check_protocol(theirs: int, *, they: str, we: str) -> None:
    """Refuse a peer of another protocol number with a sentence that says who is older.

    Raises:
        ProtocolMismatch: the numbers differ.
    """
    if theirs == PROTOCOL:
        return
    older = they if theirs < PROTOCOL else we
    raise ProtocolMismatch(
        f"{they} speaks stream protocol {theirs}, {we} speaks {PROTOCOL}: {older} is older, upgrade it"
    )


def event_id(epoch: str, revision: int) -> str:
    """``epoch.revision``, the ``id`` of an event."""
    return f"{epoch}.{revision}"


def parse_event_id(text: str) -> tuple[str, int] | None:
    """Undo event_id; None for anything that it never makes."""
    epoch, dot, revision = text.rpartition(".")
    if not dot or not epoch or not (revision.isascii() and revision.isdigit()) or len(revision) > 18:
        return None
    return epoch, int(revision)
