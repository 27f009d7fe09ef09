"""What of a tenant's leases stands in a Eureka, what should, and what is to be done next. Pure; driven by the
time that it is handed.

Each instance has one entry with at most one request on its way. Content that changes meanwhile is sent
afterwards, only as it is then. Renewals are spread, so that what came at once is not renewed at once. Refuses
what a registry has published already: it would go round in a circle.
"""

import heapq
from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from amalgam8.catalogs.eureka_document import PUBLISHED_KEY, Document, write_instance
from amalgam8.model.instance import Instance, address_of

LEASE = 90.0
"""Seconds for which an instance stands in Eureka without a renewal: Eureka's own default."""

RENEWALS = 3
"""How often it is renewed within that time."""

Action = Literal["register", "renew", "cancel"]
Outcome = Literal["done", "unknown", "foreign", "refused", "unreachable"]
"""``unknown``: Eureka has no such instance; ``foreign``: it has one that was registered there by others."""


class Task(msgspec.Struct, frozen=True):
    """One request to make. ``first``: Eureka is not known to have it from us."""

    action: Action
    instance: Instance
    first: bool = False


class _Entry:
    __slots__ = ("busy", "doubt", "due", "heard", "last", "sent", "wanted")

    def __init__(self, instance: Instance) -> None:
        self.last = instance
        self.wanted: Instance | None = None
        self.sent: Instance | None = None
        self.heard = float("-inf")
        self.due = float("inf")
        self.busy = False
        # Whether it may stand there although no answer said so.
        self.doubt = False

    @property
    def absent(self) -> bool:
        return self.sent is None and not self.doubt


class Board:
    """The entries. ``lease`` is in seconds; ``dice`` gives numbers from 0 to 1."""

    def __init__(self, lease: float = LEASE, *, dice: Callable[[], float]) -> None:
        self._lease = lease
        self.every = lease / RENEWALS
        self._dice = dice
        self._entries: dict[str, _Entry] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def ids(self) -> Collection[str]:
        """Of all that should stand there, and of what is still to be taken away."""
        return self._entries.keys()

    def published(self) -> int:
        """How many stand there by our doing, as far as is known."""
        return sum(entry.sent is not None for entry in self._entries.values())

    def waiting(self) -> int:
        """How many stand there not as they should."""
        return sum(entry.wanted != entry.sent for entry in self._entries.values())

    def want(self, instance: Instance, now: float) -> None:
        """This is to stand there, as it is."""
        entry = self._entries.setdefault(instance.id, _Entry(instance))
        if entry.wanted != instance:
            entry.wanted = entry.last = instance
            self._schedule(instance.id, entry, now)

    def leave(self, identity: str, now: float) -> None:
        """This is to stand there no longer."""
        entry = self._entries.get(identity)
        if entry is None or entry.wanted is None:
            return
        entry.wanted = None
        if entry.absent and not entry.busy:
            del self._entries[identity]
        else:
            self._schedule(identity, entry, now)

    def take(self, now: float) -> Task | None:
        """What is to be done now; the caller says what came of it. None: nothing yet."""
        while self._queue and self._queue[0][0] <= now:
            due, _, identity = heapq.heappop(self._queue)
            entry = self._entries.get(identity)
            if entry is None or entry.busy or entry.due != due:
                continue
            task = self._task(entry)
            if task is None:
                del self._entries[identity]
                continue
            entry.busy, entry.due = True, float("inf")
            return task
        return None

    def settle(self, task: Task, outcome: Outcome, now: float) -> None:
        """Note what came of a task."""
        identity = task.instance.id
        entry = self._entries[identity]
        entry.busy = False
        if outcome == "done" and task.action != "cancel":
            entry.heard = now
            entry.sent = task.instance
            entry.doubt = False
        elif outcome in ("done", "unknown", "foreign"):
            entry.sent = None
            entry.doubt = False
        elif outcome == "unreachable" and task.action == "register":
            # It may have arrived all the same: then what stands there is this and not what was before.
            entry.heard = now
            entry.sent, entry.doubt = None, True
        if entry.wanted is None and (entry.absent or now - entry.heard > self._lease):
            del self._entries[identity]
            return
        self._schedule(identity, entry, now + self._pause(task, outcome, entry))

    def _pause(self, task: Task, outcome: Outcome, entry: _Entry) -> float:
        """Seconds until its next turn."""
        if outcome == "unreachable" or (outcome == "unknown" and task.action == "renew"):
            return 0.0
        wanted = task.instance if task.action != "cancel" else None
        if entry.wanted != wanted:
            return 0.0
        if outcome == "done":
            # What was registered is renewed at any moment of a period, and from then on in that rhythm.
            low = 0.3 if task.action == "register" else 0.9
            return self.every * (low + (1 - low) * self._dice())
        return self.every * (0.5 + self._dice() / 2)

    def _schedule(self, identity: str, entry: _Entry, due: float) -> None:
        """Let it have its turn then; where a request is on its way, ``settle`` says when."""
        if entry.busy:
            return
        entry.due = due
        self._count += 1
        heapq.heappush(self._queue, (due, self._count, identity))
        if len(self._queue) > 2 * len(self._entries) + 64:
            self._queue = [one for one in self._queue if self._current(one)]
            heapq.heapify(self._queue)

    def _current(self, queued: tuple[float, int, str]) -> bool:
        entry = self._entries.get(queued[2])
        return entry is not None and entry.due == queued[0]

    @staticmethod
    def _task(entry: _Entry) -> Task | None:
        if entry.wanted is None:
            return None if entry.absent else Task("cancel", entry.last)
        if entry.wanted != entry.sent:
            return Task("register", entry.wanted, first=entry.sent is None)
        return Task("renew", entry.wanted)


def publishable(instance: Instance) -> bool:
    """Whether clients of Eureka could call it, and no registry has published it before."""
    return address_of(instance.endpoint) is not None and not is_published(_metadata(instance))


def is_published(metadata: object) -> bool:
    """Whether a registry has put what has these metadata into a Eureka."""
    return isinstance(metadata, dict) and bool(metadata.get(PUBLISHED_KEY))


def document(instance: Instance, extension: Document | None, *, lease: float, wall: float) -> Document:
    """What is registered there at ``wall`` (Unix time); ``lease`` (s) is ours and not the instance's.

    The bridge ends it as soon as it ends here; Eureka needs its own only where the registry dies. An
    override of its status here is its status there: another override would outlive it.
    """
    shown = write_instance(instance, extension, registered=wall, renewed=wall)
    shown["overriddenstatus"] = "UNKNOWN"
    shown["metadata"] = {**shown["metadata"], PUBLISHED_KEY: "true"}
    shown["leaseInfo"] = {
        **shown["leaseInfo"],
        "durationInSecs": max(1, round(lease)),
        "renewalIntervalInSecs": max(1, round(lease / RENEWALS)),
    }
    return {"instance": shown}


def _metadata(instance: Instance) -> object:
    return msgspec.json.decode(instance.metadata) if isinstance(instance.metadata, msgspec.Raw) else None
