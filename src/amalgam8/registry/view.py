"""What one tenant's instances are now, in memory, with the feed of changes that led there.

Reads come from here only and never leave the process, whatever store fills it. Refuses to decide: a store
decides and then tells the view.
"""

from collections.abc import Collection, Iterator

import msgspec

from amalgam8.model.instance import Instance
from amalgam8.registry.lease import NEVER, Lease, Stands, shown
from amalgam8.registry.query import InstanceQuery
from amalgam8.runtime.feed import Feed
from amalgam8.web.exchange import Answer

ANSWERS_KEPT = 16
"""Of each service: one for each question that is asked about it."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One change of one instance: what it is now, or None once it is gone.

    ``last`` is what one that is gone was; ``new`` says that it was not there before; ``heard`` is when it was
    last heard of (Unix s).
    """

    service: str
    id: str
    instance: Instance | None
    last: Instance | None = None
    new: bool = False
    heard: float = 0.0

    def shown(self) -> Instance | None:
        """What it is now, as everybody sees it. Not made before somebody watches."""
        return None if self.instance is None else shown(self.instance, self.heard)


class Shelf:
    """The leases of one service. ``kept`` are answers made of them, thrown away as one of them changes."""

    __slots__ = ("alone", "by_id", "kept")

    def __init__(self) -> None:
        self.by_id: dict[str, Lease] = {}
        self.kept: dict[object, Answer] = {}
        self.alone: tuple[Stands, ...] = (self,)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self.by_id.values())

    def keep(self, question: object, answer: Answer) -> Answer:
        """Keep what was answered; returns it."""
        if len(self.kept) >= ANSWERS_KEPT:
            self.kept.clear()
        self.kept[question] = answer
        return answer

    def touched(self) -> None:
        """One of the leases is not what it was, was renewed, has come or has gone."""
        if self.kept:
            self.kept.clear()


class View:
    """Leases by id and by service. ``feed`` holds the changes; its revision counts them."""

    def __init__(self) -> None:
        self.feed: Feed[Change] = Feed()
        self._by_id: dict[str, Lease] = {}
        self._resting: set[str] = set()
        self._by_service: dict[str, Shelf] = {}

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
        shelf = self._by_service.get(service)
        return () if shelf is None else shelf.by_id.values()

    def shelf(self, service: str) -> Shelf | None:
        """All of a service, with what was answered about it; None where it has no instance."""
        return self._by_service.get(service)

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
        shelf = self._by_service.get(instance.service_name)
        if shelf is None:
            shelf = self._by_service[instance.service_name] = Shelf()
        shelf.by_id[instance.id] = lease
        lease.stands_on(shelf)
        shelf.touched()
        if lease.lapses == NEVER:
            self._resting.add(instance.id)
        elif self._resting:
            self._resting.discard(instance.id)
        change = Change(instance.service_name, instance.id, instance, new=new, heard=lease.heard)
        self.feed.append(self.feed.revision + 1, change)

    def drop(self, lease: Lease) -> None:
        """Show no longer a lease that has ended."""
        instance = lease.instance
        del self._by_id[instance.id]
        self._resting.discard(instance.id)
        shelf = self._by_service[instance.service_name]
        del shelf.by_id[instance.id]
        lease.leaves(shelf)
        shelf.touched()
        if not shelf.by_id:
            del self._by_service[instance.service_name]
        change = Change(instance.service_name, instance.id, None, last=instance)
        self.feed.append(self.feed.revision + 1, change)
