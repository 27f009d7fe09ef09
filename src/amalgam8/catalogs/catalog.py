"""What a catalogue is: a read-only source of instances that somebody else looks after.

A catalogue is one method. It tells the full set of instances first and the full set again on each
change, and never less than it knows: where its source cannot be read it says so and keeps silent about
instances. ``catalogs.contract`` holds every catalogue to it; ``docs/how-to/write-a-catalog.md`` is the
guide. Refuses to write: leases belong to the registry's store.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from amalgam8.model.errors import A8Error
from amalgam8.model.instance import Instance

NEVER_HEARD = "0001-01-01T00:00:00Z"
"""``last_heartbeat`` of an instance that renews no lease; shown where a catalogue says nothing else."""

Found = Mapping[str, Iterable[Instance]]
"""Everything there is now, by tenant. A tenant that is not in it has nothing in this catalogue."""


class Teller(Protocol):
    """Whom a catalogue tells. Both may be called at any time between the start and the end of ``run``."""

    def found(self, instances: Found, problem: str = "") -> None:
        """All instances of all tenants now, in place of what was told before.

        Telling the same again is no change; it says that the data are still true. Ids are unique within a
        tenant and stay the same for the same instance, also after a restart. ``problem`` says that a part
        of the source could not be read; what was known of that part is among the instances.
        """

    def failed(self, reason: str) -> None:
        """The source cannot be read just now; what was told stays.

        ``reason`` is one sentence for the log, without secrets. The next ``found`` ends the failure.
        """


class Catalog(Protocol):
    """A source of instances."""

    @property
    def name(self) -> str:
        """Names it in logs and metrics, such as ``kubernetes``."""

    async def run(self, teller: Teller) -> None:
        """Follow the source until cancelled.

        It looks after lost connections itself, with pauses that grow. If it raises or returns all the same,
        that is reported as a failure, and it is called again after a while.
        """


class Partial(A8Error):
    """Raised by a fetch that got most: ``found`` is all that is known now, the text what is wrong."""

    code = "partial"

    def __init__(self, reason: str, found: Found) -> None:
        super().__init__(reason)
        self.found = found
