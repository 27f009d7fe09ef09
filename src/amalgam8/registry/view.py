"""What one tenant's instances are now, in memory, with the feed of changes that led there.

Reads come from here only and never leave the process, whatever store fills it. Refuses to decide: a store
decides and then tells the view.
"""

from collections.abc import Collection, Iterator

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.lease import NEVER, Lease
from amalgam8.registry.query import InstanceQuery
from amalgam8.runtime.feed import Feed


class Change(msgspec.Struct, frozen=True):
    """One change of one instance: what it is now, or None once it is gone.

    ``last`` is what one that is gone was; ``new`` says that it was not there before.
    """

    service: str
    id: str
    instance: Instance | None
    last: Instance | None = None
    new: bool = False


class View:
    """Leases by id and by service. ``feed`` holds the changes; its revision counts them."""

    def __init__(self) -> None:
        self.feed: Feed[Change] = Feed()
        self._by_id: dict[str, Lease] = {}
        self._resting: set[str] = set()
        self._by_service: dict[str, dict[str, Lease]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._by_id.values())

    @property
    def lapsing(self) -> int:
        """How many may lapse: all that are not OUT_OF_SERVICE."""
        return len(self._by_id) - len(self._resting)

    def get(self, identity: str) -> Lease | None:
        return self._by_id.get(identity)

    def services(self) -> Collection[str]:
        """Names that have an instance, of whatever status."""
        return self._by_service.keys()

    def of_service(self, service: str) -> Collection[Lease]:
        return self._by_service.get(service, {}).values()

    def select(self, query: InstanceQuery) -> Iterator[Lease]:
        """The leases that meet the query, looked up by the narrowest of its criteria."""
        found: Collection[Lease]
        if query.id is not None:
            lease = self._by_id.get(query.id)
            found = () if lease is None else (lease,)
        elif query.service_name is not None:
            found = self.of_service(query.service_name)
        else:
            found = self._by_id.values()
        return (lease for lease in found if query.matches(lease.instance))

    def put(self, lease: Lease) -> None:
        """Show a lease that is new, or whose content has changed."""
        instance = lease.instance
        new = instance.id not in self._by_id
        self._by_id[instance.id] = lease
        self._by_service.setdefault(instance.service_name, {})[instance.id] = lease
        (self._resting.add if lease.lapses == NEVER else self._resting.discard)(instance.id)
        change = Change(instance.service_name, instance.id, lease.shown(), new=new)
        self.feed.append(self.feed.revision + 1, change)

    def drop(self, lease: Lease) -> None:
        """Show no longer a lease that has ended."""
        instance = lease.instance
        del self._by_id[instance.id]
        self._resting.discard(instance.id)
        of_service = self._by_service[instance.service_name]
        del of_service[instance.id]
        if not of_service:
            del self._by_service[instance.service_name]
        change = Change(instance.service_name, instance.id, None, last=instance)
        self.feed.append(self.feed.revision + 1, change)
