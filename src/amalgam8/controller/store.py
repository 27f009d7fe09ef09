"""What a store of rules is, and the mirror that each keeps of a tenant.

A store decides the order of changes: ``append`` takes a Change only at the revision that it was made for,
and once it returns the Change is as safe as the store makes it. Reads never ask the store: they look at
the tenant's Mirror, which the store feeds with every change, whoever wrote it. Refuses to know what a rule
means. A store also keeps the ``epoch`` of its revisions and the ``secret`` behind sidecars' keys.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from amalgam8.controller.book import Change, Rulebook, apply
from amalgam8.controller.rollout_store import RolloutStore
from amalgam8.model.caller import Caller
from amalgam8.model.errors import NotEmpty, Superseded
from amalgam8.model.report import SidecarReport
from amalgam8.model.slices import SliceReport
from amalgam8.runtime.feed import Feed, Gap

WHOLE_LOG = 2**62
"""More than any log holds, and above every revision."""

TOUCHED_LENGTH = 4096
"""Changes for which it is known which destinations they touched."""


class Mirror:
    """One tenant as it is now: its Rulebook, a feed that wakes followers, and what changed lately."""

    def __init__(self, book: Rulebook, log: Iterable[tuple[int, frozenset[str]]] = ()) -> None:
        """``log``: destinations touched by the latest changes up to ``book``, oldest first, no hole."""
        self._book = book
        self.feed: Feed[Change] = Feed(book.revision)
        self._touched = deque(log, TOUCHED_LENGTH)

    @property
    def book(self) -> Rulebook:
        return self._book

    def take(self, change: Change) -> None:
        """Go on to the next revision. For stores only."""
        self._book = apply(self._book, change)
        if len(self._touched) == TOUCHED_LENGTH:
            self._touched.popleft()
        self._touched.append((change.revision, change.destinations))
        self.feed.append(change.revision, change)

    def replace(self, book: Rulebook, *, anew: bool = False) -> None:
        """Become another book altogether; followers need a snapshot. For stores only.

        ``anew``: in another epoch, so that whoever follows has to come back.
        """
        self._book = book
        self._touched.clear()
        if anew:
            ended, self.feed = self.feed, Feed(book.revision)
            ended.end()
        else:
            self.feed.reset(book.revision)

    def touched_since(self, revision: int) -> frozenset[str]:
        """The destinations that changes above ``revision`` touched.

        Raises:
            Gap: that revision is too long ago, or has not been.
        """
        base = self._touched[0][0] - 1 if self._touched else self._book.revision
        if not base <= revision <= self._book.revision:
            raise Gap(revision)
        found: set[str] = set()
        for at, destinations in reversed(self._touched):
            if at <= revision:
                break
            found |= destinations
        return frozenset(found)


class Said(msgspec.Struct, frozen=True):
    """What another controller told of a sidecar: who it is (None: forgotten), its report and when (s).

    ``wants``: what it wants of budgets that the fleet shares.
    """

    id: str
    who: Caller | None
    report: SidecarReport | None = None
    at: float = 0.0
    wants: SliceReport | None = None


class Words(msgspec.Struct, frozen=True):
    """What sidecars told this controller since others were told, the latest of each by id."""

    reports: dict[str, SidecarReport] = {}
    wants: dict[str, tuple[Caller, SliceReport]] = {}

    def __bool__(self) -> bool:
        return bool(self.reports or self.wants)


Hearer = Callable[[str, Said], None]
"""Is told the tenant and what was said."""


class Store(Protocol):
    """Rules of many tenants. Opened by its own module; to be used from one event loop.

    ``shared``: other controllers may use it at the same time. They tell each other what sidecars said;
    where there are none, nobody need tell and nobody is told.
    """

    shared: bool
    waits: bool
    """Whether a tenant that is new may have to be waited for."""

    epoch: str
    """Names this line of revisions; another one where the store has lost its memory."""

    secret: bytes
    """Behind the keys of sidecars; the same for all who share the store."""

    rollouts: RolloutStore
    """Rollouts are kept where rules are."""

    def tenants(self) -> Iterable[str]:
        """The tenants that ever wrote."""

    async def load(self, tenant: str) -> Mirror:
        """The tenant's mirror, the same object each time; an unknown tenant is at revision 0.

        Raises:
            StoreUnavailable: the store cannot be read.
        """

    async def append(self, tenant: str, expected: int, change: Change) -> None:
        """Keep ``change`` if the tenant is still at revision ``expected``; then its mirror shows it.

        Raises:
            Superseded: it is not; nothing was written.
            StoreUnavailable: it could not be written.
        """

    async def log(
        self, tenant: str, above: int = 0, below: int | None = None, limit: int = WHOLE_LOG
    ) -> list[Change]:
        """The kept changes with revisions between the two, both exclusive: newest first, ``limit`` at most.

        Raises:
            StoreUnavailable: the store cannot be read.
        """

    async def restore(self, tenant: str, book: Rulebook, log: Sequence[Change]) -> None:
        """Give an empty tenant a whole state at once, with its history.

        Raises:
            NotEmpty: the tenant has revisions already; nothing was written.
            StoreUnavailable: it could not be written.
        """

    def sidecars(self, tenant: str) -> Mapping[str, Caller]:
        """The sidecars that were remembered when the store was opened, by id."""

    async def remember(self, tenant: str, news: Mapping[str, Caller | None]) -> None:
        """Keep who the sidecars are, so that a restart does not forget one; None: it is forgotten.

        Raises:
            StoreUnavailable: it could not be written.
        """

    def said(self, tenant: str) -> Iterable[Said]:
        """The latest word of each sidecar that reported to another controller."""

    def listen(self, hearer: Hearer) -> None:
        """Tell ``hearer`` from now on what other controllers say of sidecars."""

    async def tell(self, tenant: str, words: Words) -> None:
        """Tell the other controllers what sidecars said.

        Raises:
            StoreUnavailable: it could not be told.
        """

    async def current(self, tenant: str) -> None:
        """Return once the mirror shows what any controller acknowledged before this was called.

        Raises:
            StoreUnavailable: the store cannot be read.
        """

    async def close(self) -> None:
        """Finish what is under way and let go of everything."""


class Alone:
    """The half of a Store that only those need which are shared."""

    shared = False
    waits = False

    def said(self, tenant: str) -> Iterable[Said]:  # noqa: ARG002 - nobody else is there
        return ()

    def listen(self, hearer: Hearer) -> None:
        """Nobody will ever say anything."""

    async def tell(self, tenant: str, words: Words) -> None:
        """Nobody is there to hear it."""

    async def current(self, tenant: str) -> None:
        """It always is."""


def superseded(revision: int, expected: int) -> Superseded:
    return Superseded(f"the rules are at revision {revision}, this change was made for {expected}")


def not_empty(revision: int) -> NotEmpty:
    return NotEmpty(
        f"there are rules or a history already, at revision {revision}; import into an empty tenant"
    )
